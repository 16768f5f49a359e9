"""The points that the plain network checks: those that fool the search copy, or nearly do."""

import torch
from torch import Tensor

from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.row_ops import put, spread
from advprune.logits import finite, lead


def fresh(rows: int, device: torch.device) -> Tensor:
    """Return the best margin offered so far of ``rows`` rows that offered nothing: (R,)."""
    return torch.full((rows,), -torch.inf, device=device)


def propose(
    results: BatchResults,
    state: dict[str, Tensor],
    logits: Tensor,
    point: Tensor,
    slack: float,
    among: Tensor | None = None,
) -> None:
    """Offer the points of rows that may fool the network, if they beat that row's earlier offers.

    Args:
        results: takes the points and checks them.
        state: rows with ``image``, ``y`` and ``offered``, the best margin offered so far.
        logits: logits of the search copy at the points, (R, K).
        point: (R, C, H, W).
        slack: points whose margin is above ``-slack`` times the spread of the logits may fool.
        among: rows that may be offered, (R,) bool; None for all.
    """
    ahead = lead(logits, state["y"])
    near = (ahead > state["offered"]) & ~(ahead <= -slack * spread(logits))
    near = near if among is None else near & among
    put(state, near & finite(logits), offered=ahead)
    rows = near.nonzero().squeeze(1)
    if len(rows):
        results.offer(state["image"][rows], point[rows])
