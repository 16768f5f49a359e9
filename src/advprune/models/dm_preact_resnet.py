"""Pre-activation ResNet-18 and -34 with Swish (Gowal, Rebuffi and Rade et al. 2021).

https://arxiv.org/abs/2110.09468, https://arxiv.org/abs/2103.01946. Differs from ``preact_resnet``
by its activation, its names (``conv_2d``, ``layer_0.0.conv_2d_1``, ``logits``), by TensorFlow's
padding and by its shortcut, a 3x3 convolution of the input as it is. A file of weights tells
neither the activation nor the padding.
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

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class DMPreActBlock(nn.Module):
    """A block that normalises, activates and convolves, twice, beside a shortcut.

    The shortcut is a 3x3 convolution where the shape changes.

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
        self.conv_2d_1 = convolution(inputs, outputs, side, stride)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.relu_1 = activation_layer(kind)
        self.conv_2d_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, side, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H / stride, W / stride) of maps (N, inputs, H, W)."""
        active = self.relu_0(self.batchnorm_0(x))
        shortcut = (
            x if self.shortcut is None else self.shortcut(pad_input(x, self.side, self.stride))
        )
        out = self.conv_2d_1(pad_input(active, self.side, self.stride))
        return self.conv_2d_2(self.relu_1(self.batchnorm_1(out))) + shortcut


class DMPreActResNet(nn.Module):
    """A pre-activation ResNet, as RobustBench's weights are for.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.
        depth: 18 or 34.
        width: filters of the first stage; the later ones have 2, 4 and 8 times as many.
        activation: ``swish``, as published, or ``relu``.
        padding: black pixels around the image, before it is standardised.

    Raises:
        UserError: if ``depth`` is neither 18 nor 34, ``padding`` is below 0 or the activation
            another word.
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
        activation: Activation = "swish",
        padding: Border = 0,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise UserError(f"model.depth={depth} is not a depth of this ResNet: choose 18 or 34")
        refuse_outside(DMPreActResNet, width=width, activation=activation, padding=padding)
        self.padding = padding
        sides = [image_size + 2 * padding]
        for _ in range(3):
            sides.append(-(-sides[-1] // 2))
        self.normalize = Normalize(mean, std, in_channels)
        self.conv_2d = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        count = BLOCKS[depth]
        self.layer_0 = _stage(width, width, count[0], sides[0], 1, activation)
        self.layer_1 = _stage(width, 2 * width, count[1], sides[0], 2, activation)
        self.layer_2 = _stage(2 * width, 4 * width, count[2], sides[1], 2, activation)
        self.layer_3 = _stage(4 * width, 8 * width, count[3], sides[2], 2, activation)
        self.batchnorm = nn.BatchNorm2d(8 * width)
        self.relu = activation_layer(activation)
        self.pool = average(sides[3], 4)
        self.flatten = nn.Flatten()
        self.logits = nn.Linear(8 * width, num_classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes) of pixels (N, C, H, W) in [0, 1]."""
        x = F.pad(x, (self.padding,) * 4) if self.padding else x
        out = self.layer_0(self.conv_2d(self.normalize(x)))
        out = self.layer_3(self.layer_2(self.layer_1(out)))
        return self.logits(self.flatten(self.pool(self.relu(self.batchnorm(out)))))


def _stage(
    inputs: int, outputs: int, count: int, side: int, stride: int, kind: Activation
) -> nn.Sequential:
    later = -(-side // stride)
    first = DMPreActBlock(inputs, outputs, side, stride, kind)
    return nn.Sequential(
        first, *(DMPreActBlock(outputs, outputs, later, 1, kind) for _ in range(count - 1))
    )
