"""Residual blocks chosen by score: the lowest goes first (Jordao and Pedrini 2021).

https://arxiv.org/abs/2108.04890

A stage keeps a floor of blocks; a block whose stage is at the floor is skipped.
"""

from collections.abc import Callable, Sequence

from advprune.errors import UserError
from advprune.masks import Scores, check_ratio
from advprune.sites import BlockSite

FLOOR = 2


def order(
    scores: Scores, sites: Sequence[BlockSite], *, gone: Sequence[str] = (), floor: int = FLOOR
) -> list[str]:
    """Return the names of the blocks that may go, the first to go first.

    The list ends when every stage is at its floor or has no removable block left.

    Args:
        floor: blocks that each stage keeps.
        scores: a scalar per block.
        sites: all blocks of the dense network.
        gone: those that earlier rounds removed.

    Raises:
        UserError: if the network has no block.
    """
    if not sites:
        raise UserError(
            "pruner=blocks needs a network of residual blocks, and this is a plain chain: choose "
            "model=resnet56 or another residual network, or pruner=filters"
        )
    left: dict[str, int] = {}
    for site in sites:
        left[site.stage] = left.get(site.stage, 0) + (site.name not in gone)
    candidates = [site for site in sites if site.removable and site.name not in gone]
    chosen = []
    for site in sorted(candidates, key=lambda site: float(scores[site.name])):
        if left[site.stage] > floor:
            left[site.stage] -= 1
            chosen.append(site.name)
    return chosen


def choose(
    scores: Scores,
    ratio: float,
    *,
    sites: Sequence[BlockSite],
    share: Callable[[list[str]], float],
    gone: Sequence[str] = (),
    floor: int = FLOOR,
) -> list[str]:
    """Return the fewest blocks whose removal takes at least the share ``ratio`` of the budget.

    Args:
        scores: a scalar per block, larger = keep.
        ratio: share of the dense network's budget to remove in all, in [0, 1).
        sites: all blocks of the dense network.
        gone: blocks that earlier rounds removed.
        floor: blocks that each stage keeps.
        share: all blocks removed, earlier ones too -> share of the dense network's budget gone.

    Raises:
        UserError: if there is no block, or the network cannot lose that much; the error names the
            largest ratio it can.
    """
    check_ratio(ratio)
    line = order(scores, sites, gone=gone, floor=floor)
    for count in range(len(line) + 1):
        if share([*gone, *line[:count]]) >= ratio - 1e-12:
            return line[:count]
    largest = share([*gone, *line])
    raise UserError(
        f"ratio={ratio:g} is not possible: with {floor} blocks left in each stage, "
        f"{len(line) + len(gone)} of {len(sites)} blocks may go and the largest is "
        f"{int(largest * 10_000) / 10_000:g}"
    )
