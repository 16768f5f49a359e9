"""What is known of each image of a batch: whether it still stands, and the point that made it fall.

The only judge of a point is the plain network.
"""

import torch
from torch import Tensor, nn

from advprune.prediction import is_right
from advprune.threat import Threat


class Board:
    """The images of a batch.

    Args:
        model: the plain network, frozen, in eval mode.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        places: of the images in their test set, (N,); their random numbers belong to these.
        threat: the ball.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, places: list[int], threat: Threat
    ) -> None:
        self.model, self.x, self.y, self.places, self.threat = model, x, y, places, threat
        self.x_adv = x.clone()
        with torch.no_grad():
            self.clean_logits = model(x)
        self.standing = is_right(self.clean_logits, y)

    def places_of(self, image: Tensor) -> list[int]:
        """Where the images ``image`` (R,) of the batch are in their test set."""
        return [self.places[i] for i in image.tolist()]

    @torch.no_grad()
    def offer(self, image: Tensor, point: Tensor) -> None:
        """Let each image ``image`` (R,) fall whose point (R, C, H, W), brought into the ball, fools the network."""
        point = self.threat.project(point, self.x[image])
        real = (
            point.flatten(1).isfinite().all(1)
        )  # a search that lost its way may offer what is no image
        lost = (real & ~is_right(self.model(point), self.y[image])).nonzero().squeeze(1)
        # Of several points of one image the first: written at once, they would mix on a GPU.
        first = torch.full_like(self.y, len(point)).scatter_reduce(0, image[lost], lost, "amin")
        fallen = (first < len(point)).nonzero().squeeze(1)
        self.x_adv[fallen] = point[first[fallen]]
        self.standing[fallen] = False
