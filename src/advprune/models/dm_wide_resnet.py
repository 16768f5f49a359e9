"""Wide ResNet with Swish (Gowal et al. 2020, Rebuffi et al. 2021, Wang et al. 2023).

https://arxiv.org/abs/2010.03593, https://arxiv.org/abs/2103.01946,
https://arxiv.org/abs/2302.04638. Differs from ``wide_resnet`` by its activation, its names
(``init_conv``, ``layer.0.block.0.conv_0``, ``logits``) and by TensorFlow's padding. A file of
weights tells neither the activation nor the padding.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize, he_fan_out
from advprune.models.same_padding import (
    Activation,
    Border,
    activation_layer,
    average,
    convolution,
    pad_input,
)
from advprune.ranges import Depth, Width, refuse_outside


class DMWideBlock(nn.Module):
    """A block that normalises, activates and convolves, twice, beside a shortcut.

    The shortcut is a 1x1 convolution where the number of channels changes.

    Args:
        inputs: channels in.
        outputs: channels out.
        side: of the maps that come in.
        stride: of the first convolution and of the shortcut.
        kind: of the activations.
    """

    def __init__(self, inputs: int, outputs: int, side: int, stride: int, kind: Activation) -> None:
        super().__init__()
        self.side, self.stride = side, stride
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.relu_0 = activation_layer(kind)
        self.conv_0 = convolution(inputs, outputs, side, stride)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.relu_1 = activation_layer(kind)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        active = self.relu_0(self.batchnorm_0(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        out = self.conv_0(pad_input(active, self.side, self.stride))
        return self.conv_1(self.relu_1(self.batchnorm_1(out))) + shortcut


class DMStage(nn.Module):
    """Blocks of one width; a module only because the published keys have its name.

    Args:
        inputs: channels in.
        outputs: channels out.
        count: number of blocks.
        side: of the maps that come in.
        stride: of the first block.
        kind: of the activations.
    """

    def __init__(
        self, inputs: int, outputs: int, count: int, side: int, stride: int, kind: Activation
    ) -> None:
        super().__init__()
        later = -(-side // stride)
        first = DMWideBlock(inputs, outputs, side, stride, kind)
        self.block = nn.Sequential(
            first, *(DMWideBlock(outputs, outputs, later, 1, kind) for _ in range(count - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        return self.block(x)


class DMWideResNet(nn.Module):
    """A wide ResNet, as RobustBench's weights are for.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 6n + 4, such as 28, 34, 70, 94, 106.
        widen: at least 1; the stages have 16, 32 and 64 times as many filters.
        activation: ``swish``, as published, or ``relu``.
        padding: black pixels around the image, before it is standardised.

    Raises:
        UserError: if ``depth`` is not 6n + 4 with n >= 1, ``widen`` is below 1, ``padding`` below 0
            or the activation another word.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        mean: list[float],
        std: list[float],
        depth: Depth = 28,
        widen: Width = 10,
        activation: Activation = "swish",
        padding: Border = 0,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 != 0:
            raise UserError(f"model.depth={depth} must be 6n + 4, such as 28, 34 or 70")
        refuse_outside(
            DMWideResNet, depth=depth, widen=widen, activation=activation, padding=padding
        )
        self.padding = padding
        side, count = image_size + 2 * padding, (depth - 4) // 6
        self.normalize = Normalize(mean, std, in_channels)
        self.init_conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        half = -(-side // 2)
        self.layer = nn.Sequential(
            DMStage(16, 16 * widen, count, side, 1, activation),
            DMStage(16 * widen, 32 * widen, count, side, 2, activation),
            DMStage(32 * widen, 64 * widen, count, half, 2, activation),
        )
        self.batchnorm = nn.BatchNorm2d(64 * widen)
        self.relu = activation_layer(activation)
        self.pool = average(-(-half // 2), 8)
        self.flatten = nn.Flatten()
        self.logits = nn.Linear(64 * widen, num_classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        x = F.pad(x, (self.padding,) * 4) if self.padding else x
        out = self.layer(self.init_conv(self.normalize(x)))
        return self.logits(self.flatten(self.pool(self.relu(self.batchnorm(out)))))
