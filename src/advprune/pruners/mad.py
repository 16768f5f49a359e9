"""Masking adversarial damage: second-order saliency at a learned mask (Lee, Kim and Ro 2022).

https://arxiv.org/abs/2204.02738

For each batch of attacked images a soft mask is fitted to lower the loss; what it takes off the
weights, measured by the curvature of the masked network, is the score. Written from a description
of the authors' code. Differs from it: 16 batches by default, not the whole set; the classifier is
ranked with all other layers unless ``classifier=rows``.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from advprune.frozen import frozen
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Attack, Batches, attacked
from advprune.pruners.eligible import Eligible
from advprune.pruners.kfac import Layer, damage, factors
from advprune.ranges import Count, Positive, refuse_outside

#: The smallest mask: one that is 0 could not grow again.
FLOOR = 1e-4
#: softplus(START) = 1, the mask that changes nothing; softplus(LOWEST) = FLOOR.
START, LOWEST = math.log(math.expm1(1)), math.log(math.expm1(FLOOR))


def mad(
    model: nn.Module,
    batches: Batches,
    *,
    attack: Attack | None = None,
    count: Count | None = 16,
    steps: Count = 20,
    learning_rate: Positive = 0.1,
    classifier: Literal["global", "rows"] = "global",
    eligible: Eligible = prunable,
) -> Scores:
    """Score each eligible parameter by the damage that its mask does, the mean over batches.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y).
        attack: (model, x, y) -> x_adv that masks and curvature see; None: the clean images.
        count: of batches looked at; None: all.
        steps: of Adam, on each batch's mask.
        learning_rate: of Adam.
        classifier: how the last linear layer is ranked: with all others (``global``), or as the
            authors do, so that a global ratio takes the same share of each row (``rows``).
        eligible: model -> the parameters scored.

    Returns:
        One tensor per eligible parameter, of its shape; it may be negative. The model, in eval mode
        meanwhile, is left as found.

    Raises:
        UserError: if there is no batch, or ``classifier`` has no such member.
    """
    refuse_outside(mad, classifier=classifier)
    weights = {name: parameter.detach() for name, parameter in eligible(model).items()}
    layers = _layers(model, weights)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    seen = 0
    for x, y in attacked(model, batches, attack, count):
        masks = soft_masks(model, weights, x, y, steps=steps, learning_rate=learning_rate)
        masked = {name: weight * masks[name] for name, weight in weights.items()}
        for name, curvature in factors(model, masked, x, y, layers).items():
            change = _matrix(layers[name], name, weights, masks)
            _add(total, layers[name], name, damage(change, curvature))
        seen += 1
    scores = {name: score / seen for name, score in total.items()}
    return rows_alike(scores) if classifier == "rows" else scores


def soft_masks(
    model: nn.Module,
    weights: dict[str, Tensor],
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    learning_rate: float,
) -> Scores:
    """Fit a mask in [1e-4, 1] for each weight that lowers the cross-entropy, starting from 1."""
    raw = {
        name: torch.full_like(weight, START).requires_grad_() for name, weight in weights.items()
    }
    optimizer = torch.optim.Adam(raw.values(), lr=learning_rate)
    with frozen(model), torch.enable_grad():
        for _ in range(steps):
            masked = {name: weight * F.softplus(raw[name]) for name, weight in weights.items()}
            optimizer.zero_grad()
            F.cross_entropy(functional_call(model, masked, (x,)), y).backward()
            optimizer.step()
            with torch.no_grad():
                for mask in raw.values():
                    mask.clamp_(LOWEST, START)
    return {name: F.softplus(mask.detach()).clamp(FLOOR, 1) for name, mask in raw.items()}


def rows_alike(scores: Scores) -> Scores:
    """Replace the last matrix's scores by those of equal rank among all other weights.

    Rank is counted in each row by itself, so a global threshold takes the same share of each row.
    """
    last = [name for name, score in scores.items() if score.dim() == 2][-1:]
    for name in last:
        others = torch.cat([s.flatten() for other, s in scores.items() if other != name])
        score, ordered = scores[name], others.sort().values
        rank = score.argsort(dim=1, stable=True).argsort(dim=1)
        at = (rank + 0.5) / score.shape[1] * (len(ordered) - 1)
        scores = scores | {name: ordered[at.round().long()]}
    return scores


def _layers(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Layer]:
    """Return the layers that hold scored weights, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and f"{name}.weight".lstrip(".") in weights
    }


def _matrix(layer: Layer, name: str, weights: dict[str, Tensor], masks: Scores) -> Tensor:
    """Return what a layer's masks take off it, (O, I), 0 for a bias that is not scored."""
    kernel, bias = f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")
    change = (weights[kernel] * (1 - masks[kernel])).flatten(1)
    if layer.bias is None:
        return change
    column = weights[bias] * (1 - masks[bias]) if bias in weights else torch.zeros_like(layer.bias)
    return torch.cat([change, column.detach()[:, None]], 1)


def _add(total: Scores, layer: Layer, name: str, shares: Tensor) -> None:
    """Add a layer's damage (O, I) to the scores of its weight and, if scored, its bias."""
    kernel, bias = f"{name}.weight".lstrip("."), f"{name}.bias".lstrip(".")
    width = total[kernel][0].numel()
    total[kernel] += shares[:, :width].reshape(total[kernel].shape)
    if bias in total:
        total[bias] += shares[:, width]
