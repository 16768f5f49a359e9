"""VGG-16 with batch normalisation and one linear layer: the benchmark's, kuangliu/pytorch-cifar's.

Simonyan and Zisserman, 2015 (https://arxiv.org/abs/1409.1556). The convolutions have a bias as in
kuangliu's and FlyingBird's files, or none as in TwinRep's and MAD's. The last of the five max-pools
is an average in MAD's. Images smaller than 32x32 skip the pools that have nothing left to do; no
parameter changes.
"""

from typing import Literal

from torch import Tensor, nn

from advprune.models.building_blocks import Normalize, he_fan_out
from advprune.ranges import Width

#: Convolutions of each stage, and their filters in units of the first stage's.
STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
UNSETTLED = (
    "weights of this VGG do not say how its last map becomes 1x1, and a max-pool was taken: set "
    "model.last_pool=average (files of MAD) or model.last_pool=max (all others)"
)


class VGG16Linear(nn.Module):
    """VGG-16 whose classifier is one linear layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        width: filters of the first stage.
        bias: whether convolutions have a bias.
        last_pool: over the map of the last stage; None: ``max``, and ``unsettled`` says so.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        width: Width = 64,
        bias: bool = True,
        last_pool: Literal["max", "average"] | None = None,
    ) -> None:
        super().__init__()
        self.unsettled = (UNSETTLED,) if last_pool is None else ()
        self.normalize = Normalize(mean, std, in_channels)
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        for number, (convolutions, factor) in enumerate(STAGES, 1):
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(channels, width * factor, 3, padding=1, bias=bias),
                    nn.BatchNorm2d(width * factor),
                    nn.ReLU(),
                ]
                channels = width * factor
            pools = side > 1 and (number < len(STAGES) or last_pool != "average")
            # an Identity in their place keeps the layers' numbers, which are the keys
            layers.append(nn.MaxPool2d(2, ceil_mode=True) if pools else nn.Identity())
            side = (side + 1) // 2 if pools else side
        self.features = nn.Sequential(*layers)
        # a map of 1x1 needs no pool, whose CUDA backward is not deterministic
        self.avgpool = nn.Identity() if side == 1 else nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return self.classifier(self.flatten(self.avgpool(self.features(self.normalize(x)))))
