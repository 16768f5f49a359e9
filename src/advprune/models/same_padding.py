"""TensorFlow's SAME padding for 3x3 convolutions, and the activations of the networks that came from there."""

from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

Activation: TypeAlias = Literal["swish", "relu"]
#: Pixels around an image.
Border: TypeAlias = Annotated[int, Ge(0), Le(64)]


def activated(name: Activation) -> nn.Module:
    """A new activation module."""
    return nn.SiLU() if name == "swish" else nn.ReLU()


def uneven(side: int, stride: int) -> bool:
    """Whether SAME pads a 3x3 convolution on the right and below alone: with stride 2, where the side is even."""
    return stride == 2 and side % 2 == 0


def convolution(inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
    """A 3x3 convolution without bias; where its padding is uneven, ``padded`` does it."""
    return nn.Conv2d(
        inputs, outputs, 3, stride=stride, padding=0 if uneven(side, stride) else 1, bias=False
    )


def padded(x: Tensor, side: int, stride: int) -> Tensor:
    """What such a convolution is given: (N, C, H, W), or a row and a column of zeros more."""
    return F.pad(x, (0, 1, 0, 1)) if uneven(side, stride) else x


def average(side: int, window: int) -> nn.Module:
    """The authors' average over ``window`` x ``window``, which drops what is beyond it; of other sizes over the map."""
    return nn.AvgPool2d(window) if window < side < 2 * window else nn.AdaptiveAvgPool2d(1)
