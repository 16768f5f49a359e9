"""Masks and scores as values: which weights are prunable, how many are kept, and which."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.ranges import decimal

Masks = dict[str, Tensor]  # {parameter name: bool tensor of the parameter's shape}, True = kept
Scores = dict[str, Tensor]  # {parameter name: importance, of the parameter's shape}, larger = keep


def prunable(model: nn.Module) -> dict[str, nn.Parameter]:
    """List the weights of every convolution and linear layer by parameter name, in model order.

    Depthwise and 1x1 convolutions and the classifier are included; biases and normalisation are
    not. A weight that two layers share is listed once, under its first name.
    """
    weights: dict[int, tuple[str, nn.Parameter]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights.setdefault(
                id(module.weight), (f"{name}.weight".lstrip("."), cast(nn.Parameter, module.weight))
            )
    return dict(weights.values())


def check_ratio(ratio: float) -> None:
    """Check that ``ratio``, the share of weights removed, is in [0, 1).

    Raises:
        UserError: also for NaN, and for a percentage such as 99.
    """
    if isinstance(ratio, bool) or not 0 <= ratio < 1:
        raise UserError(
            f"ratio={ratio} is not allowed: ratio is the share removed, in [0, 1); "
            "for 99 % write ratio=0.99"
        )


def keep_count(n: int, ratio: float) -> int:
    """Return how many of ``n`` weights are kept when the share ``ratio`` is removed.

    That is max(1, round((1 - ratio) * n)), and 0 of none. ``ratio`` means the decimal a person
    wrote, so 0.9 of 100 keeps 10 whatever binary floats do; exact halves round to the even count
    (0.5 of 5 keeps 2, of 7 keeps 4).

    Raises:
        UserError: if ``ratio`` is not in [0, 1).
    """
    check_ratio(ratio)
    return min(n, max(1, round((1 - decimal(ratio)) * n)))


def authors_count(n: int, keep: float) -> int:
    """Return how many of ``n`` weights HYDRA's code keeps at its keep-fraction ``keep``.

    The code (https://arxiv.org/abs/2002.10509) truncates binary floats: 0.9 keeps 91 of 100.
    """
    return n - int((1 - keep) * n)


def top_k(scores: Tensor, k: int) -> Tensor:
    """Mark exactly the ``k`` largest scores; among equal scores the lowest flat index wins.

    Args:
        scores: floating, any shape and device; infinities are ordered, NaN is refused.
        k: 0 <= k <= number of scores.

    Returns:
        Bool mask of the scores' shape with exactly ``k`` True.

    Raises:
        UserError: if a score is NaN.
        ValueError: if ``k`` is out of range.
    """
    flat = scores.detach().reshape(-1)
    if not 0 <= k <= flat.numel():
        raise ValueError(f"cannot keep {k} of {flat.numel()} scores")
    # max lets NaN through, and is ten times faster than isnan of all
    if flat.numel() and torch.isnan(flat.max()):
        raise UserError(
            f"{int(torch.isnan(flat).sum())} of {flat.numel()} scores are NaN and have no rank; "
            "the training that made them diverged: lower its learning rate"
        )
    if k in (0, flat.numel()):
        return torch.full(scores.shape, k > 0, dtype=torch.bool, device=scores.device)
    kept = flat >= (threshold := kth_largest(flat, k))
    surplus = int(torch.count_nonzero(kept)) - k
    if surplus:
        ties = (flat == threshold).nonzero().reshape(-1)
        kept[ties[-surplus:]] = False
    return kept.reshape(scores.shape)


def largest(scores: Scores, counts: Sequence[int]) -> Masks:
    """Keep the ``counts`` largest scores of the tensors, in their order."""
    return {
        name: named_top_k(name, score, count)
        for (name, score), count in zip(scores.items(), counts, strict=True)
    }


def named_top_k(name: str, score: Tensor, k: int) -> Tensor:
    """Mark the ``k`` largest scores; an error names the tensor."""
    try:
        return top_k(score, k)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def kth_largest(flat: Tensor, k: int) -> Tensor:
    """Return the ``k``-th largest of a vector, a scalar; 1 <= k <= its length."""
    if flat.device.type != "cpu":
        return torch.topk(flat, k, sorted=False).values.amin()
    # numpy selects three times faster than torch.kthvalue; half precision widens without loss
    values = (flat if flat.dtype in (torch.float32, torch.float64) else flat.double()).numpy()
    return torch.tensor(np.partition(values, flat.numel() - k)[flat.numel() - k], dtype=flat.dtype)


@dataclass(frozen=True)
class Sparsity:
    """Counted zeros of several tensors, as shares in [0, 1].

    Attributes:
        kept: number of non-zero entries by tensor name.
        total: number of all entries by tensor name.
    """

    kept: dict[str, int]
    total: dict[str, int]

    @property
    def layers(self) -> dict[str, float]:
        """Return the share of zeros in each tensor."""
        return {name: 1 - self.kept[name] / self.total[name] for name in self.total}

    @property
    def overall(self) -> float:
        """Return the share of zeros among all entries, not the mean over layers."""
        return 1 - sum(self.kept.values()) / sum(self.total.values())


def sparsity(tensors: Mapping[str, Tensor]) -> Sparsity:
    """Count the non-zero entries of masks, or of weights such as ``prunable(model)``."""
    return Sparsity(
        kept={name: int(torch.count_nonzero(tensor)) for name, tensor in tensors.items()},
        total={name: tensor.numel() for name, tensor in tensors.items()},
    )


def matched(model: nn.Module, masks: Masks) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """Pair each mask with its parameter, in model order, the mask on the parameter's device.

    Every prunable weight needs a mask (all True leaves it alone, visibly); other parameters, such
    as biases, may have one.

    Raises:
        UserError: naming the tensor, if a mask is missing, names no parameter, is not bool or has
            another shape.
    """
    parameters = dict(model.named_parameters())
    for name in prunable(model):
        if name not in masks:
            raise UserError(
                f"{name} has no mask; masks cover every prunable weight, "
                "and all True leaves one unpruned"
            )
    for name, mask in masks.items():
        if name not in parameters:
            raise UserError(
                f"the mask {name} names no parameter of {type(model).__name__}; "
                "was it made for this model?"
            )
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise UserError(
                f"the mask of {name} is {mask.dtype} {tuple(mask.shape)}; "
                f"it must be torch.bool {tuple(parameters[name].shape)}"
            )
    return {name: (p, masks[name].to(p.device)) for name, p in parameters.items() if name in masks}


def check(model: nn.Module, masks: Masks) -> None:
    """Check that every masked weight of the model is exactly zero.

    Raises:
        UserError: naming the tensor, if one is not, or if masks and model do not fit (see
            ``matched``).
    """
    for name, (weight, mask) in matched(model, masks).items():
        alive = int(torch.count_nonzero(weight.detach().masked_fill(mask, 0)))
        if alive:
            raise UserError(
                f"{alive} of the {int((~mask).sum())} pruned weights of {name} are not zero; "
                "apply these masks to the model, or load the ones it was pruned with"
            )


def checksum(masks: Masks) -> str:
    """Return SHA-256 over names, shapes and entries as hex, for any device and order of names."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(f"{name} {tuple(masks[name].shape)}\n".encode())
        digest.update(masks[name].contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def buffer_name(name: str) -> str:
    """Return a parameter's name as the name of a buffer or parameter, which has no dots."""
    return name.replace(".", ":")
