"""A network watched while others' code attacks it, for points at which its logits are not finite.

Others' code takes ``argmax`` of such logits for a class, or passes over the point; yet every image
in whose ball one lies is lost, whichever image the search was for.
"""

import torch
from torch import Tensor, nn

from advprune.prediction import finite
from advprune.threat import Threat

#: Room for the rounding of a distance, as much as the frame gives.
SLACK = 1e-5


class Watched(nn.Module):
    """``model``, with logits that say "lost" in place of those that are not finite.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K).
        x, y: the images that are attacked, and their labels.
        threat: the ball.

    Attributes:
        lost: (N,) bool: images in whose ball such a point was seen.
        points: (N, C, H, W): the last one.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> None:
        super().__init__()
        self.model, self.x, self.y, self.threat = model, x, y, threat
        self.points, self.lost = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, K)."""
        logits: Tensor = self.model(x)
        odd = ~finite(logits.detach())
        if not bool(odd.any()):
            return logits
        said = torch.zeros_like(logits)
        for row in odd.nonzero().squeeze(1).tolist():
            said[row, self.y[self._inside(x[row].detach())]] = -1
        return torch.where(odd[:, None], said, logits)

    @torch.no_grad()
    def _inside(self, point: Tensor) -> Tensor:
        """Note whose balls this point is in: (N,) bool."""
        inside = self.threat.distance(point.expand_as(self.x), self.x) <= self.threat.eps + SLACK
        inside &= bool(((point >= 0) & (point <= 1)).all())  # NaN is neither
        self.points[inside] = point
        self.lost |= inside
        return inside
