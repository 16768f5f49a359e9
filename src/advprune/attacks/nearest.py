"""Keep the nearest point of another class that a minimum-norm search meets, for each image."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from advprune.logits import predict
from advprune.threat import Threat


class Nearest:
    """Hold each image's nearest misclassified point so far.

    Args:
        x: clean images (N, C, H, W) in [0, 1].
        y: their labels (N,) int64.
        threat: whose norm measures distances; its radius is looked at in ``in_ball`` alone.

    Attributes:
        points: (N, C, H, W): the nearest point; the image itself where none was met.
        distance: (N,): how far it is; infinite where none was met.
        farthest: (N,): no point of the cube of pixels is farther from the image.
    """

    def __init__(self, x: Tensor, y: Tensor, threat: Threat) -> None:
        self.x, self.y, self.threat = x, y, threat
        self.points, self.distance = x.clone(), torch.full_like(x.flatten(1).sum(1), torch.inf)
        self.farthest = threat.distance(torch.where(x < 0.5, 1.0, 0.0).to(x), x)

    def offer(self, points: Tensor, logits: Tensor) -> Tensor:
        """Keep those points that are misclassified and nearer than what was met before.

        Args:
            points: one an image, (N, C, H, W) in [0, 1].
            logits: the network's at these points, (N, K).

        Returns:
            Which points are misclassified, (N,) bool; those with a logit that is not finite are.
        """
        wrong = predict(logits) != self.y
        distance = self.threat.distance(points, self.x)
        better = wrong & (distance < self.distance)
        self.points = torch.where(better.view(-1, 1, 1, 1), points, self.points)
        self.distance = torch.where(better, distance, self.distance)
        return wrong

    @torch.no_grad()
    def refine(self, model: nn.Module, halvings: int = 12) -> None:
        """Bring each point nearer along the line to its image, by halving the way to the boundary.

        Args:
            model: pixels (N, C, H, W) in [0, 1] -> logits (N, K).
            halvings: forward passes; the last one's step is ``distance / 2**halvings``.
        """
        away, reached = self.points - self.x, torch.ones_like(self.distance)
        for halving in range(1, halvings + 1):
            share = reached - 0.5**halving
            points = self.x + share.view(-1, 1, 1, 1) * away
            reached = torch.where(self.offer(points, model(points)), share, reached)

    def in_ball(self) -> Tensor:
        """Return the nearest points (N, C, H, W), the image itself where it is outside the ball."""
        inside = self.distance <= self.threat.eps
        return torch.where(inside.view(-1, 1, 1, 1), self.points, self.x)


def annealed(start: float, end: float, steps: int) -> Iterator[float]:
    """Yield a value for each step, from ``start`` towards ``end`` along half a cosine."""
    for step in range(steps):
        yield end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2
