"""Read a network as a chain of layers, narrowed to the channels that depend on the pixels.

A channel is left out if no image can switch it on (interval bounds of pixels in [0, 1]), or if its
weights are zero wherever its inputs vary: it is then a constant, which the next layer adds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.fast.chain import MATRIX, Chain, Convolution, Dense, Layer, Relu, values

#: Of these, exactly, a chain consists; a subclass may do something else.
LAYERS = {
    *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU),
    *(nn.Flatten, nn.Identity, nn.Dropout),
}


class NoChainError(Exception):
    """The network is no chain, or has a layer that ``chain.py`` lacks."""


@dataclass(frozen=True)
class Affine:
    """A convolution or a linear layer as it is read.

    Attributes:
        weight: (O, C, K, K) or (O, I).
        bias: (O,), or none.
        stride: of the convolution.
        padding: of zeros, of the convolution.
        active: whether a ReLU follows.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    active: bool = False

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve ``x`` (N, C, H, W) with ``weight``, with this layer's stride and padding."""
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def kernel(self, image: Tensor) -> Tensor:
        """Return the weight as (O, C, K, K); a linear layer's kernel is the whole image.

        Raises:
            NoChainError: if it is the kernel of other images than ``image``, (1, C, H, W).
        """
        if self.weight.dim() == 4:
            return self.weight
        if self.weight.shape[1] != image.numel():
            raise NoChainError
        return self.weight.view(-1, *image.shape[1:])

    def normalized(self, norm: nn.BatchNorm2d) -> "Affine":
        """Return the layer that is this one and a BatchNorm behind it.

        Raises:
            NoChainError: if the BatchNorm normalizes by the batch.
        """
        if norm.training or norm.running_mean is None or norm.running_var is None:
            raise NoChainError
        scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = -norm.running_mean if self.bias is None else self.bias - norm.running_mean
        bias = shift * scale + (0 if norm.bias is None else norm.bias)
        return replace(self, weight=self.weight * scale.view(-1, 1, 1, 1), bias=bias)


@torch.no_grad()
def chain_of(modules: Iterable[nn.Module], x: Tensor) -> Chain:
    """Return the chain that computes what the modules compute one after the other.

    Args:
        modules: from pixels to logits, in eval mode. The first may have a method
            ``factor_and_shift``: how it scales each channel, (C, 1, 1) both.
        x: images (N, C, H, W), of which only shape, type and device are read.

    Raises:
        NoChainError: if they are none.
    """
    every = list(_flattened(modules))
    factor, shift = x.new_ones(()), x.new_zeros(())
    if every and hasattr(type(every[0]), "factor_and_shift"):
        factor, shift = every.pop(0).factor_and_shift()  # type: ignore[operator]
    return Chain(_narrowed(_blocks(every), factor, x.new_zeros(1, *x.shape[1:]) + shift))


def _flattened(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if type(module) is nn.Sequential:
            yield from _flattened(module)
        else:
            yield module


def _blocks(modules: list[nn.Module]) -> list[Affine]:
    """Return the convolutions and linear layers; all but the last have a ReLU."""
    blocks, flat = list[Affine](), False
    for module in modules:
        opened = bool(blocks) and not blocks[-1].active
        match module:
            case _ if type(module) not in LAYERS:
                raise NoChainError
            case nn.Conv2d() if not flat and _is_plain(module):
                blocks.append(_convolution(module))
            case nn.Linear() if flat:
                blocks.append(Affine(module.weight, module.bias))
            case nn.BatchNorm2d() if opened and not flat:
                blocks[-1] = blocks[-1].normalized(module)
            case nn.ReLU() if opened:
                blocks[-1] = replace(blocks[-1], active=True)
            case nn.Flatten(start_dim=1, end_dim=-1):
                flat = True
            case nn.Identity() | nn.Dropout(training=False):
                pass
            case _:
                raise NoChainError
    if not flat or [block.active for block in blocks] != [True] * (len(blocks) - 1) + [False]:
        raise NoChainError
    return blocks


def _is_plain(conv: nn.Conv2d) -> bool:
    ordinary = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    return ordinary and not isinstance(conv.padding, str)


def _convolution(conv: nn.Conv2d) -> Affine:
    padding = tuple(int(side) for side in conv.padding)
    return Affine(conv.weight, conv.bias, conv.stride, padding)


def _narrowed(blocks: list[Affine], factor: Tensor, constant: Tensor) -> list[Layer]:
    """Return the layers, as wide as what depends on the pixels.

    Args:
        blocks: all but the last with a ReLU.
        factor: of the pixels, (C, 1, 1).
        constant: what is added to them then, (1, C, H, W); later what the channels that are left
            out give to the next layer.
    """
    layers: list[Layer] = []
    live = torch.ones(constant.shape[1], dtype=torch.bool, device=constant.device)
    highest = torch.ones_like(constant)  # of the live channels, whose lowest value is 0
    for block in blocks:
        weight, side = block.kernel(constant), constant.shape[2:]
        offset = block(constant, weight, block.bias)
        weight, factor = weight[:, live] * factor, factor.new_ones(())
        if not block.active:
            return [*layers, _layer(block, weight, offset, side)]
        highest = block(highest, weight.clamp_min(0)) + offset
        still = (weight == 0).flatten(1).all(1)
        live = ~still & ~(highest.amax((0, 2, 3)) <= 0)  # a filter of NaN stays
        if not live.any():
            live[0] = True
        layers += [_layer(block, weight[live], offset[:, live], side), Relu()]
        constant = torch.where((still & ~live).view(-1, 1, 1), offset.relu(), 0)
        highest = highest[:, live].clamp_min(0)
    return layers


def _layer(block: Affine, weight: Tensor, offset: Tensor, side: torch.Size) -> Layer:
    if block.weight.dim() == 2:
        return Dense(values(weight), offset.flatten())
    if offset.numel() * weight.shape[1] * side.numel() <= MATRIX:
        return Dense(_matrix(block, weight, side), values(offset).flatten())
    return Convolution(weight, offset, block.stride, block.padding, side)


def _matrix(block: Affine, weight: Tensor, side: torch.Size) -> Tensor:
    """Return a convolution's matrix, from and to values in the order of channels last."""
    pixels = side.numel()
    each = torch.eye(pixels, dtype=weight.dtype, device=weight.device).view(pixels, 1, *side)
    rows = block(each, weight.flatten(0, 1).unsqueeze(1))  # the filter of each pair of channels
    rows = rows.view(pixels, *weight.shape[:2], *rows.shape[2:])
    return rows.permute(3, 4, 1, 0, 2).reshape(-1, pixels * weight.shape[1])
