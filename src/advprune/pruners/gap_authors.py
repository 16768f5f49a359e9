"""Greedy adversarial pruning to the letter of its authors' code, quirks included.

O'Brien Weiss et al. 2022, https://arxiv.org/abs/2206.07406.

Against the clean definition in ``gradient``: the ten PGD steps' own weight gradients, taken at the
predicted label, are added to the one at the true label; PGD walks in normalised space (8/255 there
is about 2/255 in pixels) and may leave the pixel range; the network is in train mode throughout and
its BatchNorm statistics stay moved; batch means are summed, so a short last batch weighs like a
full one. Written from the description of the code, not from the code.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores, prunable
from advprune.pruners.eligible import Eligible
from advprune.pruners.gradient import Score, add, check_score, scored
from advprune.pruners.scoring import moves_statistics
from advprune.ranges import Count, Length, Quotient, fraction


@dataclass(frozen=True)
class _Walk:
    """PGD in normalised space, as ``gap_authors`` describes its options."""

    eps: float
    step: float
    steps: int
    random_start: bool
    leak: bool


@moves_statistics
def gap_authors(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    scope: Literal["global", "layer"] = "global",
    score: Score | None = None,
    eps: Length | Quotient = "8/255",
    step: Length | Quotient = "2/255",
    steps: Count = 10,
    random_start: bool = True,
    leak: bool = True,
    count: Count | None = None,
    eligible: Eligible = prunable,
) -> Scores:
    """Score each parameter by the gradient accumulated along the attack.

    Args:
        model: starts with ``normalize``; its BatchNorm statistics are moved, all else is left as
            found.
        batches: training batches (x, y).
        scope: where ``score`` is None: ``global`` scores by g, ``layer`` by |g|.
        score: see ``gradient``.
        eps: radius of the ball, in units of normalised images.
        step: of PGD, in the same units.
        steps: of PGD.
        random_start: uniform in the ball.
        leak: whether the steps' weight gradients are added too.
        count: of batches looked at; None: the whole set, as theirs.
        eligible: model -> the parameters scored.

    Returns:
        One tensor per eligible parameter, of its shape: a sum over batches. The largest are to be
            removed.

    Raises:
        UserError: if the model has no ``normalize``, an option is none of the above, or there is no
            batch.
    """
    score = score or ("signed" if scope == "global" else "abs")
    check_score(score)
    normalize = getattr(model, "normalize", None)
    if not isinstance(normalize, nn.Module):
        raise UserError(
            f"gap_authors attacks behind the layer normalize, and {type(model).__name__} has none; "
            "use gap"
        )
    weights = eligible(model)
    walk = _Walk(fraction(eps), fraction(step), steps, random_start, leak)
    total: Scores = {}
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.train().requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        model.normalize = nn.Identity()
        for x, y in islice(batches, count):
            total = total or {name: torch.zeros_like(weight) for name, weight in weights.items()}
            _accumulate(total, model, weights, normalize(x), y, walk)
    finally:
        model.normalize = normalize
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
    if not total:
        raise UserError("gap_authors got no batch to take a gradient on")
    return scored(total, weights, score)


def _accumulate(
    total: Scores,
    model: nn.Module,
    weights: dict[str, nn.Parameter],
    z: Tensor,
    y: Tensor,
    walk: _Walk,
) -> None:
    """Add one batch's gradients: those along PGD from normalised images ``z``, then at its end."""
    parameters = list(weights.values())
    with torch.no_grad():
        guessed = model(z).argmax(1)
    z_adv = z + walk.eps * (2 * torch.rand_like(z) - 1) if walk.random_start else z.clone()
    with torch.enable_grad():
        for _ in range(walk.steps):
            z_adv.requires_grad_(True)
            loss = F.cross_entropy(model(z_adv), guessed)
            slope, *leaked = torch.autograd.grad(
                loss, [z_adv, *(parameters if walk.leak else [])], allow_unused=True
            )
            if walk.leak:
                add(total, leaked)
            z_adv = z + (z_adv.detach() + walk.step * slope.sign() - z).clamp(-walk.eps, walk.eps)
        add(
            total,
            torch.autograd.grad(F.cross_entropy(model(z_adv), y), parameters, allow_unused=True),
        )
