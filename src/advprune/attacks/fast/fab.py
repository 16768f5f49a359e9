"""Targeted FAB (Croce and Hein 2020, https://arxiv.org/abs/1907.02044, algorithm 1).

Runs many images at once. FAB seeks the nearest point that fools the network; here it ends for an
image with the first such point inside the ball.
"""

import torch
from torch import Tensor

from advprune.attacks.fast.candidates import fresh, propose
from advprune.attacks.fast.projections import to_hyperplane
from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.row_ops import length, pick, wide
from advprune.attacks.fast.searcher import Searcher
from advprune.logits import is_right

STEPS = 100
BIAS = 0.1  # largest share of the step towards the clean image's projection, the paper's alpha_max
OVERSHOOT = 1.05  # eta
BACK = 0.9  # beta


class FAB:
    """The search along the linearised decision boundary.

    Args:
        net: the copy of the network that searches.
        results: the images and what is known of them.
        turns: number of targets, the best wrong class first.
    """

    def __init__(self, net: Searcher, results: BatchResults, *, turns: int) -> None:
        self.net, self.results, self.turns = net, results, turns
        self.order = results.clean_logits.argsort(1, descending=True)

    def begin(self, image: Tensor, turn: Tensor) -> dict[str, Tensor]:
        """Make rows at their clean images, for the first restart is not random."""
        x = self.results.x[image]
        return {
            "image": image,
            "turn": turn,
            "x": x,
            "y": self.results.y[image],
            "target": self.order[image, turn + 1],
            "point": x,
            "made": torch.zeros_like(image),
            "offered": fresh(len(x), x.device),
        }

    def step(self, state: dict[str, Tensor]) -> Tensor:
        """Step onto the linearised boundary; from beyond the true one, step back."""
        lead, grad = self._boundary(state)
        x, threat = state["x"], self.results.threat
        point = towards(state["point"], x, grad, lead, threat.norm)
        logits = self.net.ask(point)
        inside = threat.distance(point, x) <= threat.eps
        propose(self.results, state, logits, point, self.net.slack, among=inside)
        lost = ~is_right(logits, state["y"])
        state["point"] = torch.where(wide(lost), x + BACK * (point - x), point)
        state["made"] = state["made"] + 1
        return state["made"] == STEPS

    def _boundary(self, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return by how much the target's logit leads, (R,), and the gradient of that.

        The lead is negative while the image is right.
        """
        logits, pull = self.net.record(state["point"])
        rows = torch.arange(len(logits), device=logits.device)
        slope = torch.zeros_like(logits)
        slope[rows, state["target"]], slope[rows, state["y"]] = 1.0, -1.0
        lead = pick(logits, state["target"]) - pick(logits, state["y"])
        return lead, pull(slope)


def towards(point: Tensor, x: Tensor, grad: Tensor, lead: Tensor, norm: str) -> Tensor:
    """Move just beyond where the linearised lead is zero, between two projections onto it.

    Args:
        point: present points (R, C, H, W), which are projected.
        x: clean images (R, C, H, W), which are projected too.
        grad: gradient of the lead at ``point``, (R, C, H, W).
        lead: the lead at ``point``, (R,).
        norm: ``linf`` or ``l2``.

    Returns:
        (R, C, H, W) in [0, 1].
    """
    normal = grad.flatten(1)
    gap_here = -lead
    gap_there = gap_here + (normal * (point - x).flatten(1)).sum(1)
    both = to_hyperplane(
        torch.cat([point.flatten(1), x.flatten(1)]),
        normal.repeat(2, 1),
        torch.cat([gap_here, gap_there]),
        norm,
    )
    here, there = both.view(2, *x.shape)
    length_here, length_there = length(both, norm).clamp_min(1e-8).chunk(2)
    share = wide((length_here / (length_here + length_there)).clamp_max(BIAS))
    return ((point + OVERSHOOT * here) * (1 - share) + (x + OVERSHOOT * there) * share).clamp(0, 1)
