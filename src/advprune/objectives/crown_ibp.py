"""CROWN-IBP training (Zhang et al. 2020, https://arxiv.org/abs/1906.06316).

The worst case comes from linear bounds at first, from intervals at the end. Differs from the paper
in the pace: eps, kappa and beta move with the share of training that is done, not with steps.
"""

from collections.abc import Callable

from torch import Tensor, nn

from advprune.objectives.ibp import check_schedule, eps_share, interpolate, mix_losses
from advprune.ranges import Share, refuse_outside


def crown_ibp(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    bound: Callable[..., Tensor],
    hold: Share = 0.0,
    ramp: Share = 0.5,
    kappa_start: Share = 0.0,
    kappa_end: Share = 0.0,
    beta_start: Share = 1.0,
    beta_end: Share = 0.0,
) -> Tensor:
    """Compute kappa * CE(f(x), y) + (1 - kappa) * CE(worst-case logits, y), means over the batch.

    The worst case is minus (beta * linear + (1 - beta) * interval bounds of the margins). eps grows
    linearly from 0 to the threat's, and kappa and beta move from start to end, while ``progress``
    goes from ``hold`` to ``hold + ramp``. With ``ramp`` 0 all are at their end at once: pure IBP
    where ``beta_end`` is 0.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), of operations that
            ``bounds.graph`` knows.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1).
        bound: (model, x, y, scale=share of eps, beta=share of the linear bounds) -> lower bounds of
            the margins (N, K), such as ``linear.crown_ibp``.
        hold: share of training before eps grows, in [0, 1].
        ramp: share of training in which eps grows, in [0, 1 - hold].
        kappa_start: weight of the natural loss at first, in [0, 1].
        kappa_end: weight of the natural loss in the end, in [0, 1].
        beta_start: share of the linear bounds at first, in [0, 1].
        beta_end: share of the linear bounds in the end, in [0, 1].

    Returns:
        A scalar.

    Raises:
        UserError: if an option is not one of those above.
    """
    refuse_outside(
        crown_ibp,
        hold=hold,
        ramp=ramp,
        kappa_start=kappa_start,
        kappa_end=kappa_end,
        beta_start=beta_start,
        beta_end=beta_end,
    )
    check_schedule(hold, ramp)
    share = eps_share(progress, hold, ramp)
    kappa = interpolate(kappa_start, kappa_end, share)
    beta = interpolate(beta_start, beta_end, share)
    return mix_losses(model, x, y, kappa, lambda: bound(model, x, y, scale=share, beta=beta))
