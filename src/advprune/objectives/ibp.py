"""Interval training, IBP (Gowal et al. 2018, https://arxiv.org/abs/1810.12715).

Cross-entropy on worst-case logits. Differs from the paper in the pace: eps and kappa move with the
share of training that is done, not with steps.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.ranges import Share, refuse_outside
from advprune.schedules import eps_ramp


def ibp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    bound: Callable[..., Tensor],
    hold: Share = 0.0,
    ramp: Share = 0.5,
    kappa_start: Share = 1.0,
    kappa_end: Share = 0.0,
) -> Tensor:
    """Compute kappa * CE(f(x), y) + (1 - kappa) * CE(worst-case logits, y), means over the batch.

    eps grows linearly from 0 to the threat's, and kappa moves from its start to its end, while
    ``progress`` goes from ``hold`` to ``hold + ramp``. With ``ramp`` 0 both are at their end at
    once.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of operations that
            ``bounds.graph`` knows.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1).
        bound: (model, x, y, scale=share of eps) -> lower bounds of the margins (N, K), such as
            ``interval.ibp``.
        hold: share of training before eps grows, in [0, 1].
        ramp: share of training in which eps grows, in [0, 1 - hold].
        kappa_start: weight of the natural loss at first, in [0, 1].
        kappa_end: weight of the natural loss in the end, in [0, 1].

    Returns:
        A scalar.

    Raises:
        UserError: if an option is not one of those above.
    """
    refuse_outside(ibp, hold=hold, ramp=ramp, kappa_start=kappa_start, kappa_end=kappa_end)
    check_schedule(hold, ramp)
    share = eps_share(progress, hold, ramp)
    kappa = interpolate(kappa_start, kappa_end, share)
    return mix_losses(model, x, y, kappa, lambda: bound(model, x, y, scale=share))


def eps_share(progress: float, hold: float, ramp: float) -> float:
    """Return the share of the final eps at ``progress``: exactly 1 from ``hold + ramp`` on."""
    return eps_ramp(max(progress - hold, 0.0), ramp)


def interpolate(start: float, end: float, share: float) -> float:
    """Interpolate from ``start`` at share 0 to ``end`` at share 1, both reached exactly."""
    return start * (1 - share) + end * share


def mix_losses(
    model: nn.Module, x: Tensor, y: Tensor, kappa: float, margins: Callable[[], Tensor]
) -> Tensor:
    """Mix the natural loss, of weight ``kappa``, and the worst-case loss of the ``margins``.

    A loss of weight 0 is not computed.
    """
    natural = kappa * F.cross_entropy(model(x), y) if kappa > 0 else 0.0
    robust = (1 - kappa) * F.cross_entropy(-margins(), y) if kappa < 1 else 0.0
    return x.new_zeros(()) + natural + robust


def check_schedule(hold: float, ramp: float) -> None:
    """Check that a schedule reaches its end within training.

    Raises:
        UserError: naming the option.
    """
    if hold + ramp > 1:
        raise UserError(f"hold={hold:g} and ramp={ramp:g} are shares of training: at most 1 in all")
