"""ResNet-50 for ImageNet: torchvision's, with its keys (He et al. 2016).

https://arxiv.org/abs/1512.03385. Differs from the paper by the stride in the 3x3 convolution
("v1.5"), as torchvision's does; differs from torchvision's by a ReLU module of its own for each
use, which pruning and hooks need.
"""

from torch import Tensor, nn
from torchvision.models import resnet

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize
from advprune.ranges import Depth, Factor


class Bottleneck(resnet.Bottleneck):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; ``ResNet50`` adds its first two ReLUs."""

    relu1: nn.ReLU
    relu2: nn.ReLU

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4 * planes, H / stride, W / stride) of maps (N, inplanes, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet50(resnet.ResNet):
    """ResNet-50, -101 or -152 behind a ``Normalize`` layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        blocks: bottleneck blocks in each of the four stages; [3,4,23,3] is ResNet-101.
        width: channels of the 3x3 convolutions, as a factor; 2 is Wide ResNet-50-2.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        blocks: list[Depth],
        width: Factor = 1.0,
    ) -> None:
        if len(blocks) != 4:
            raise UserError(
                f"model.blocks={list(blocks)} must be four numbers of blocks, such as [3,4,6,3]"
            )
        super().__init__(Bottleneck, list(blocks), num_classes, width_per_group=round(64 * width))
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.relu = nn.ReLU()
        for module in self.modules():
            if isinstance(module, Bottleneck):
                module.relu1, module.relu2, module.relu = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return super().forward(self.normalize(x))
