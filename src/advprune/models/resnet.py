"""ResNet-18 to -152 for small images, with the keys of adversarial training (He et al. 2016).

https://arxiv.org/abs/1512.03385. Differs from the paper's ImageNet network by a 3x3 stem of stride
1 without a max-pool; the keys (``layer1.0.conv1``, ``layer2.0.shortcut.0``, ``linear``) are those
of kuangliu/pytorch-cifar.
"""

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize
from advprune.ranges import Depth, Width

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
#: From this depth on, blocks are bottlenecks.
BOTTLENECKS = 50


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, a 1x1 convolution where the shape changes.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


class NarrowBlock(nn.Module):
    """A bottleneck: 1x1, 3x3 and 1x1 convolution beside a shortcut.

    The shortcut is a 1x1 convolution where the shape changes.

    Args:
        inputs: channels in.
        planes: channels of the 3x3 convolution; four times as many come out.
        stride: of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu3 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 4 * planes, H / stride, W / stride) of maps (N, inputs, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + self.shortcut(x))


class ResNet(nn.Module):
    """A ResNet for small images.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 18 or 34; 50, 101 or 152 of bottlenecks.
        width: filters of the first stage; the later ones have 2, 4 and 8 times as many.

    Raises:
        UserError: if ``depth`` is none of these.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        depth: Depth = 18,
        width: Width = 64,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise UserError(
                f"model.depth={depth} is not a depth of this ResNet: choose 18 or 34, or 50, 101 "
                "or 152"
            )
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        count = BLOCKS[depth]
        narrow = depth >= BOTTLENECKS
        out = 4 if narrow else 1
        self.layer1 = _stage(width, width, count[0], stride=1, narrow=narrow)
        self.layer2 = _stage(out * width, 2 * width, count[1], stride=2, narrow=narrow)
        self.layer3 = _stage(out * 2 * width, 4 * width, count[2], stride=2, narrow=narrow)
        self.layer4 = _stage(out * 4 * width, 8 * width, count[3], stride=2, narrow=narrow)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(out * 8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        out = self.relu1(self.bn1(self.conv1(self.normalize(x))))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(self.flatten(self.pool(out)))


def _stage(inputs: int, planes: int, count: int, stride: int, *, narrow: bool) -> nn.Sequential:
    block, outputs = (NarrowBlock, 4 * planes) if narrow else (BasicBlock, planes)
    return nn.Sequential(
        block(inputs, planes, stride), *(block(outputs, planes, 1) for _ in range(count - 1))
    )
