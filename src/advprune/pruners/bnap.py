"""Magnitude behind BatchNorm: |w| of the layer that BatchNorm is folded into (Wang et al. 2021).

The weight times gamma / sqrt(variance + eps) of its channel, which is the weight that the network
computes with; so a layer that BatchNorm rescales can be compared with another. The paper itself was
not read: the score is as Jung and Song (CVPR 2025, equation 11) state it.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advprune.frozen import frozen, hooked
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Batches, first
from advprune.pruners.eligible import Eligible


def bnap(model: nn.Module, batches: Batches, *, eligible: Eligible = prunable) -> Scores:
    """Score each eligible parameter by its absolute value after folding.

    Args:
        model: a network of images (N, C, H, W).
        batches: training batches (x, y); one image shows which BatchNorm reads which layer.
        eligible: model -> the parameters scored.

    Returns:
        One tensor >= 0 per eligible parameter, of its shape; |w| where no BatchNorm follows. The
        model, in eval mode meanwhile, is left as found.
    """
    x, _ = next(first(batches, 1))
    scores = {name: parameter.detach().abs() for name, parameter in eligible(model).items()}
    for layer, norm in norms_behind(model, x[:1]).items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in scores:
                score = scores[name]
                scores[name] = score * _scale(norm).view(-1, *[1] * (score.dim() - 1))
    return scores


def norms_behind(model: nn.Module, x: Tensor) -> dict[str, _BatchNorm]:
    """Return the BatchNorm that reads each layer's output as it is, by the layer's name.

    Args:
        model: the network.
        x: images (N, C, H, W), which are sent through it once, in eval mode.
    """
    made: dict[str, Tensor] = {}
    pairs: dict[str, _BatchNorm] = {}

    def read(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        pairs.update({name: norm for name, output in made.items() if output is inputs[0]})

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(
                module.register_forward_hook(lambda m, i, out, n=name: made.update({n: out}))
            )
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(read))
    with hooked(hooks), frozen(model), torch.no_grad():
        model(x)
    return pairs


def _scale(norm: _BatchNorm) -> Tensor:
    """Return |gamma| / sqrt(variance + eps) of each channel, (C,)."""
    assert norm.running_var is not None
    gamma = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight.detach().abs()
    return gamma / (norm.running_var + norm.eps).sqrt()
