"""Which points the plain network is asked about: those that fool the search copy, and those that nearly do."""

import torch
from torch import Tensor

from advprune.attacks.fast.results import Board
from advprune.attacks.fast.row_ops import put, spread
from advprune.prediction import finite, lead


def fresh(rows: int, device: torch.device) -> Tensor:
    """Nothing was proposed yet: (R,)."""
    return torch.full((rows,), -torch.inf, device=device)


def propose(
    board: Board,
    state: dict[str, Tensor],
    logits: Tensor,
    point: Tensor,
    slack: float,
    among: Tensor | None = None,
) -> None:
    """Offer each row's point whose margin is above ``-slack`` spreads, if none as good of that row was offered before.

    Args:
        state: with ``image``, ``y`` and ``offered``, the best margin offered so far.
        logits: of the search copy at the points, (R, K).
        point: (R, C, H, W).
        among: rows that may be offered, (R,) bool; all if None.
    """
    ahead = lead(logits, state["y"])
    near = (ahead > state["offered"]) & ~(ahead <= -slack * spread(logits))
    near = near if among is None else near & among
    put(state, near & finite(logits), offered=ahead)
    rows = near.nonzero().squeeze(1)
    if len(rows):
        board.offer(state["image"][rows], point[rows])
