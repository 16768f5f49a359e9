"""ResNet-18 and -34 for ImageNet: torchvision's, with its keys (He et al. 2016).

https://arxiv.org/abs/1512.03385. Differs from torchvision's by a ReLU module of its own for each
use, which pruning and hooks need; differs from ``resnet`` by a 7x7 stem of stride 2 and a max-pool.
"""

from torch import Tensor, nn
from torchvision.models import resnet

from advprune.models.building_blocks import Normalize
from advprune.ranges import Depth


class ImageNetBlock(resnet.BasicBlock):
    """Two 3x3 convolutions beside a shortcut; ``ImageNetResNet`` adds its first ReLU."""

    relu1: nn.ReLU

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, planes, H / stride, W / stride) of maps (N, inplanes, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class ImageNetResNet(resnet.ResNet):
    """ResNet-18 or -34 behind a ``Normalize`` layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        blocks: in each of the four stages; [3,4,6,3] is ResNet-34.
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
    ) -> None:
        super().__init__(ImageNetBlock, list(blocks), num_classes)
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.relu = nn.ReLU()
        for module in self.modules():
            if isinstance(module, ImageNetBlock):
                module.relu1, module.relu = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        return super().forward(self.normalize(x))
