"""VGG-16 with batch normalisation for small images: HYDRA's, and ShrinkBench's with dropout.

``vgg16_bn``: Simonyan and Zisserman, 2015 (https://arxiv.org/abs/1409.1556), as
https://arxiv.org/abs/2002.10509 has it: no fifth max-pool, hidden layers of 256, no dropout.
``vgg_bn_drop``: Zagoruyko's CIFAR network of 2015, as https://arxiv.org/abs/2206.07406 has it:
convolutions with a bias, dropout, one hidden layer of 512. Images smaller than 32x32 skip the
max-pools that would leave less than the classifier needs; no parameter changes.
"""

from typing import Annotated

from annotated_types import Ge, Lt
from torch import Tensor, nn

from advprune.models.building_blocks import Normalize, he_fan_out
from advprune.ranges import Width

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16BN(nn.Module):
    """VGG-16 of HYDRA.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        hidden: neurons in each of the two hidden linear layers.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        hidden: Width = 256,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, in_channels)
        layers: list[nn.Module] = []
        channels, side = in_channels, image_size
        for number, stage in enumerate(STAGES):
            if number > 0:
                shrink = side > 2
                # An Identity where the map is small already, so that the layers' numbers, the keys,
                # stay the same.
                layers.append(nn.MaxPool2d(2, ceil_mode=True) if shrink else nn.Identity())
                side = (side + 1) // 2 if shrink else side
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                channels = width
        self.features = nn.Sequential(*layers)
        # At 32x32 the map is 2x2 already, and the pool's CUDA backward is not deterministic.
        self.avgpool = nn.Identity() if side == 2 else nn.AdaptiveAvgPool2d(2)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            *(nn.Linear(channels * 4, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, num_classes),
        )
        he_fan_out(self)
        for module in self.classifier:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return self.classifier(self.flatten(self.avgpool(self.features(self.normalize(x)))))


class ConvBlock(nn.Module):
    """A 3x3 convolution with a bias, normalisation, ReLU.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H, W) of maps (N, inputs, H, W)."""
        return self.relu(self.bn(self.conv(x)))


class VGGBNDrop(nn.Module):
    """VGG-16 with dropout; its keys are those of JJGO/shrinkbench.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        dropout: the factor on the network's own rates (0.3 in the first stage, 0.4 in the others,
            0.5 in the classifier); 0 turns them off.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        dropout: Annotated[float, Ge(0), Lt(2)] = 1.0,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std, in_channels)
        layers: list[nn.Module] = []
        channels = in_channels
        for number, stage in enumerate(STAGES):
            for width in stage[:-1]:
                layers += [
                    ConvBlock(channels, width),
                    nn.Dropout((0.4 if number else 0.3) * dropout),
                ]
                channels = width
            # With ceil_mode a map of 1x1, which small images reach early, passes unchanged.
            layers += [ConvBlock(channels, stage[-1]), nn.MaxPool2d(2, ceil_mode=True)]
            channels = stage[-1]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(0.5 * dropout),
            *(nn.Linear(channels, 512), nn.BatchNorm1d(512), nn.ReLU()),
            nn.Dropout(0.5 * dropout),
            nn.Linear(512, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return self.classifier(self.flatten(self.pool(self.features(self.normalize(x)))))
