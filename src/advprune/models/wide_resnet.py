"""Wide residual networks WRN-depth-widen (Zagoruyko and Komodakis 2016).

The large networks of adversarial training.

https://arxiv.org/abs/1605.07146. The keys are those of TRADES and HYDRA (``block1.layer.0.conv1``),
without their unused ``sub_block1``, which never took part in a forward pass.
"""

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize, he_fan_out
from advprune.ranges import Depth, ShareBelowOne, Width, refuse_outside


class WideBlock(nn.Module):
    """A block that normalises, activates and convolves, twice, beside a shortcut.

    The shortcut is a 1x1 convolution where the shape changes.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
        dropout: probability of dropping a value between the convolutions.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out = self.relu2(self.bn2(self.conv1(active)))
        return self.conv2(self.drop(out)) + shortcut


class Stage(nn.Module):
    """Blocks of one width; a module only because the published keys have its name.

    Args:
        inputs: channels in.
        outputs: channels out.
        count: number of blocks.
        stride: of the first block.
        dropout: probability of dropping a value between a block's convolutions.
    """

    def __init__(self, inputs: int, outputs: int, count: int, stride: int, dropout: float) -> None:
        super().__init__()
        first = WideBlock(inputs, outputs, stride, dropout)
        self.layer = nn.Sequential(
            first, *(WideBlock(outputs, outputs, 1, dropout) for _ in range(count - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        return self.layer(x)


class WideResNet(nn.Module):
    """A wide ResNet for small images.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images; any will do, the last map is averaged.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 6n + 4, such as 16, 28, 34.
        widen: at least 1; the stages have 16, 32 and 64 times as many filters.
        dropout: probability of dropping a value between a block's convolutions.

    Raises:
        UserError: if ``depth`` is not 6n + 4 with n >= 1, or ``widen`` is below 1.
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
        widen: Width,
        dropout: ShareBelowOne = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 != 0:
            raise UserError(f"model.depth={depth} must be 6n + 4, such as 16, 28 or 34")
        refuse_outside(WideResNet, depth=depth, widen=widen, dropout=dropout)
        count = (depth - 4) // 6
        self.normalize = Normalize(mean, std, in_channels)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = Stage(16, 16 * widen, count, 1, dropout)
        self.block2 = Stage(16 * widen, 32 * widen, count, 2, dropout)
        self.block3 = Stage(32 * widen, 64 * widen, count, 2, dropout)
        self.bn1 = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64 * widen, num_classes)
        he_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        out = self.block3(self.block2(self.block1(self.conv1(self.normalize(x)))))
        return self.fc(self.flatten(self.pool(self.relu(self.bn1(out)))))
