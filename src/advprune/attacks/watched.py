"""A network that records points at which its logits are not finite, while a library attacks it.

A library takes ``argmax`` of such logits for a class, or passes over the point; yet every image in
whose ball such a point lies is lost, whichever image the search was for.
"""

import torch
from torch import Tensor, nn

from advprune.attacks.monitor import AttackMonitor
from advprune.logits import finite
from advprune.threat import Threat

#: Tolerance for the rounding of a distance, the same as the evaluation's.
SLACK = 1e-5


class Watched(nn.Module):
    """``model`` with logits against the label in place of those that are not finite.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K).
        x: the images that are attacked, (N, C, H, W) in [0, 1].
        y: their labels (N,) int64.
        threat: the ball.
        monitor: that hears of each pass, as a library says nothing while it attacks.

    Attributes:
        lost: (N,) bool: images in whose ball such a point was met.
        points: (N, C, H, W): the last such point of each image.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        monitor: AttackMonitor | None = None,
    ) -> None:
        super().__init__()
        self.monitor, self.part = monitor or AttackMonitor(), ""
        self.passes, self.expected = 0, 1
        self.model, self.x, self.y, self.threat = model, x, y, threat
        self.points, self.lost = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def begin_part(self, part: str, expected: int) -> None:
        """Count the passes of a part of an attack from here on.

        Args:
            part: its name.
            expected: passes that it takes at most, roughly.
        """
        self.part, self.passes, self.expected = part, 0, expected

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W), all of them finite."""
        self.passes += 1
        self.monitor.advance_part(self.part, min(self.passes / self.expected, 1.0))
        logits: Tensor = self.model(x)
        not_finite = ~finite(logits.detach())
        if not bool(not_finite.any()):
            return logits
        replaced = torch.zeros_like(logits)
        for row in not_finite.nonzero().squeeze(1).tolist():
            replaced[row, self.y[self._inside(x[row].detach())]] = -1
        return torch.where(not_finite[:, None], replaced, logits)

    @torch.no_grad()
    def _inside(self, point: Tensor) -> Tensor:
        """Record the images whose balls this point is in, and return them: (N,) bool."""
        inside = self.threat.distance(point.expand_as(self.x), self.x) <= self.threat.eps + SLACK
        inside &= bool(((point >= 0) & (point <= 1)).all())  # NaN is neither
        self.points[inside] = point
        self.lost |= inside
        return inside
