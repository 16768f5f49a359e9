"""TensorFlow's SAME padding for 3x3 convolutions, and the activations of networks from there."""

from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

Activation: TypeAlias = Literal["swish", "relu"]
#: Pixels around an image.
Border: TypeAlias = Annotated[int, Ge(0), Le(64)]


def activation_layer(name: Activation) -> nn.Module:
    """Return a new activation module."""
    return nn.SiLU() if name == "swish" else nn.ReLU()


def uneven(side: int, stride: int) -> bool:
    """Return whether SAME pads a 3x3 convolution only on the right and below.

    It does with stride 2 where the side is even.
    """
    return stride == 2 and side % 2 == 0


def convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
    """Return a 3x3 convolution without bias; where its padding is uneven, ``pad_input`` does it."""
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=0 if uneven(side, stride) else 1, bias=False
    )


def pad_input(x: Tensor, side: int, stride: int) -> Tensor:
    """Pad maps (N, C, H, W) for ``convolution`` by a row and a column of zeros, where uneven."""
    return F.pad(x, (0, 1, 0, 1)) if uneven(side, stride) else x


def average(side: int, window: int) -> nn.Module:
    """Return an average over ``window`` x ``window``, or over the map where that does not fit.

    The authors' window drops what is beyond it.
    """
    return nn.AvgPool2d(window) if window < side < 2 * window else nn.AdaptiveAvgPool2d(1)
