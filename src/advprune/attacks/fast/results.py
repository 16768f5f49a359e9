"""What is known of each image of a batch: whether it is still right, and the point that fooled it.

Only the plain network in float32 decides about a point.
"""

import torch
from torch import Tensor, nn

from advprune.logits import is_right
from advprune.threat import Threat


class BatchResults:
    """The images of a batch and the best points found for them.

    Args:
        model: the plain network, frozen, in eval mode.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        places: places of the images in their test set, (N,), which decide their random numbers.
        threat: the ball.

    Attributes:
        x_adv: (N, C, H, W): the point that fooled the network, or the clean image.
        still_right: (N,) bool: images that no point has fooled yet.
        clean_logits: (N, K).
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, places: list[int], threat: Threat
    ) -> None:
        self.model, self.x, self.y, self.places, self.threat = model, x, y, places, threat
        self.x_adv = x.clone()
        with torch.no_grad():
            self.clean_logits = model(x)
        self.still_right = is_right(self.clean_logits, y)

    def places_of(self, image: Tensor) -> list[int]:
        """Return the places in the test set of the images ``image`` (R,) of the batch."""
        return [self.places[i] for i in image.tolist()]

    @torch.no_grad()
    def offer(self, image: Tensor, point: Tensor) -> None:
        """Record for each image ``image`` (R,) its point (R, C, H, W) if it fools the network.

        Points are first projected into the ball.
        """
        point = self.threat.project(point, self.x[image])
        finite = point.flatten(1).isfinite().all(1)  # NaN gradients may lead to NaN pixels
        lost = (finite & ~is_right(self.model(point), self.y[image])).nonzero().squeeze(1)
        # Of several points of one image the first: written at once, they would mix on a GPU.
        first = torch.full_like(self.y, len(point)).scatter_reduce(0, image[lost], lost, "amin")
        fallen = (first < len(point)).nonzero().squeeze(1)
        self.x_adv[fallen] = point[first[fallen]]
        self.still_right[fallen] = False
