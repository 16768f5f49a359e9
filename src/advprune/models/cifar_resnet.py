"""The thin CIFAR ResNets of depth 6n + 2: 20, 32, 44, 56, 110 (He et al., 2016, section 4.2).

https://arxiv.org/abs/1512.03385. ``shortcut`` says how a block passes its input on where the shape
changes: ``A`` pads with zero channels (the paper's; keys as in akamaster/pytorch_resnet_cifar10),
``B`` is a 1x1 convolution with normalisation, ``projection`` is the Keras network of
https://arxiv.org/abs/2108.04890: every convolution with a bias, the 1x1 shortcut without
normalisation, and Keras' normalisation constants.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize
from advprune.ranges import Depth, Width, refuse_outside

Shortcut = Literal["A", "B", "projection"]


class PadShortcut(nn.Module):
    """A shortcut without parameters: every second pixel, padded with zero channels.

    Args:
        extra: channels to add.
        stride: 1 keeps every pixel, 2 every second.
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C + extra, H / stride, W / stride) of maps (N, C, H, W)."""
        before = self.extra // 2
        return F.pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before)
        )


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
        shortcut: what it is where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        bias = shortcut == "projection"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
        self.bn1 = _norm(outputs, shortcut)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.bn2 = _norm(outputs, shortcut)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Sequential()
        if stride == 1 and inputs == outputs:
            return
        if shortcut == "A":
            self.shortcut = PadShortcut(outputs - inputs, stride)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=bias))
            if shortcut == "B":
                self.shortcut.append(_norm(outputs, shortcut))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """A thin ResNet of depth 6n + 2 for small images.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 6n + 2, such as 20, 32, 44, 56, 110.
        width: filters of the first stage; the later ones have 2 and 4 times as many.
        shortcut: ``A``, ``B`` or ``projection``.

    Raises:
        UserError: if ``depth`` is not 6n + 2 with n >= 1, or ``shortcut`` is none of the three.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        depth: Depth,
        width: Width = 16,
        shortcut: Shortcut = "A",
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6 != 0:
            raise UserError(f"model.depth={depth} must be 6n + 2, such as 20, 32, 44, 56 or 110")
        refuse_outside(CifarResNet, width=width, shortcut=shortcut)
        count = (depth - 2) // 6
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=shortcut == "projection")
        self.bn1 = _norm(width, shortcut)
        self.relu1 = nn.ReLU()
        self.layer1 = _stage(width, width, count, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, count, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, count, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        out = self.relu1(self.bn1(self.conv1(self.normalize(x))))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(self.flatten(self.pool(out)))


def _stage(inputs: int, outputs: int, count: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = Block(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(Block(outputs, outputs, 1, shortcut) for _ in range(count - 1)))


def _norm(channels: int, shortcut: Shortcut) -> nn.BatchNorm2d:
    """Return a batch norm, with Keras' constants for ``projection``.

    Keras' momentum 0.99 is torch's 0.01.
    """
    return (
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        if shortcut == "projection"
        else nn.BatchNorm2d(channels)
    )
