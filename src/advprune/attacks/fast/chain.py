"""A chain of convolutions, ReLUs and linear layers, narrowed and run without autograd.

A small network spends as much time in autograd and in the gradient of its first convolution as in
its arithmetic. Here ReLUs work in place, images stay channels last, and the gradient of pixels is
all that is computed. A channel is left out if no image can switch it on (interval bounds of pixels
in [0, 1]), or if its weights are zero wherever its inputs vary: it is then a constant, which the
next layer adds.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.frozen import effective_network
from advprune.runtime import speed

#: The largest layer, as entries of its matrix, that is one product with it. A network of 24, 48 and
#: 48 filters has its first convolution below it, and at a ratio of 0.99 all of them.
MATRIX = 1 << 17
#: The most input channels of a convolution whose gradient is a product and a sum of its patches.
FEW = 3
#: Of these, exactly, a chain consists; a subclass may do something else.
LAYERS = (nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten, nn.Identity, nn.Dropout)
#: Share of zero weights from which on an attack sees a chain. Fewer zeros leave few channels out:
#: docs/performance.md has what it gives at which ratio. Dense networks keep their bits.
SPARSE = 7 / 8


class Layer(Protocol):
    """A step of the chain, on images (N, C, H, W) or on their values (N, H * W * C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output; ``x`` may be changed."""

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Return the gradient of the input ``x`` from that of the output ``out``."""


class Convolution:
    """A convolution, as wide as those channels are that depend on the pixels.

    Args:
        weight: (O, C, K, K).
        offset: what is added to the outputs, (1, O, H, W).
        stride: in both directions.
        padding: of zeros, on all sides.
        side: height and width of its input.
    """

    def __init__(
        self,
        weight: Tensor,
        offset: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        side: torch.Size,
    ) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.stride, self.padding, self.side = stride, padding, side
        everywhere = offset[0, :, 0, 0]
        self.varies = bool((offset != everywhere.view(-1, 1, 1)).any())
        self.offset = (
            offset.contiguous(memory_format=torch.channels_last) if self.varies else everywhere
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        bias = None if self.varies else self.offset
        out = F.conv2d(self._image(x), self.weight, bias, self.stride, self.padding)
        return out.add_(self.offset) if self.varies else out

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Convolve back."""
        pulled = self._patches(grad) if self.weight.shape[1] <= FEW else self._back(grad, x)
        return pulled if x.dim() == 4 else values(pulled)

    def _patches(self, grad: Tensor) -> Tensor:
        """Return the input's gradient as the sum of the patches that the outputs read."""
        patches = self.weight.flatten(1).T @ grad.flatten(2)
        size = (self.side[0], self.side[1])
        return F.fold(patches, size, self.weight.shape[2:], 1, self.padding, self.stride)

    def _back(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the input's gradient as the library computes it."""
        given = (self.stride, self.padding, [1, 1], False, [0, 0], 1)
        wanted = [True, False, False]
        pulled: Tensor = torch.ops.aten.convolution_backward(
            grad, self._image(x), self.weight, None, *given, wanted
        )[0]
        return pulled

    def _image(self, x: Tensor) -> Tensor:
        """Return ``x`` with strides that say channels last, of one channel too."""
        return values(x).reshape(len(x), *self.side, -1).permute(0, 3, 1, 2)


class Relu:
    """ReLU, in place."""

    def forward(self, x: Tensor) -> Tensor:
        """Set negative values to zero."""
        return x.relu_()

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Let through where the output is positive."""
        passed: Tensor = torch.ops.aten.threshold_backward(grad, out, 0)
        return passed


class Dense:
    """A linear layer, or a convolution written out as a matrix.

    Args:
        weight: (O, I), of the values of an image, channels last.
        offset: (O,).
    """

    def __init__(self, weight: Tensor, offset: Tensor) -> None:
        self.weight, self.offset = weight, offset

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return F.linear(values(x), self.weight, self.offset)

    def pull(self, grad: Tensor, x: Tensor, out: Tensor) -> Tensor:
        """Multiply back."""
        flat = grad @ self.weight
        if x.dim() == 2:
            return flat
        return flat.view(len(x), *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)


class Chain(nn.Module):
    """The layers in a row, from pixels (N, C, H, W) in [0, 1] to logits (N, K).

    Args:
        layers: in the order in which they run.
    """

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K), differentiable in the pixels alone."""
        logits: Tensor = _Pulled.apply(x, self)
        return logits

    def record(self, x: Tensor) -> list[Tensor]:
        """Return the pixels and each layer's output, the logits last."""
        seen = [x.contiguous(memory_format=torch.channels_last)]
        for layer in self.layers:
            seen.append(layer.forward(seen[-1]))
        return seen

    def pull(self, seen: list[Tensor], grad: Tensor) -> Tensor:
        """Return the gradient of the pixels from that of the logits (N, K).

        Args:
            seen: what ``record`` returned.
            grad: (N, K).
        """
        for layer, x, out in zip(self.layers[::-1], seen[-2::-1], seen[:0:-1], strict=True):
            grad = layer.pull(grad, x, out)
        return grad


class _Pulled(torch.autograd.Function):
    """Let autograd see a whole chain as one operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, chain: Chain) -> Tensor:
        *seen, logits = chain.record(x)
        ctx.chain, ctx.seen = chain, seen  # without the logits, which hold this context
        return logits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # the last layer is linear: its gradient reads the shape of its output alone
        return ctx.chain.pull([*ctx.seen, grads[0]], grads[0]), None


def values(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) as their values (N, H * W * C), channels last."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x


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


def dense_layer(block: Affine, weight: Tensor, offset: Tensor, side: torch.Size) -> Layer:
    """Return what computes a convolution or a linear layer.

    Args:
        block: how it is read.
        weight: (O, C, K, K), of the channels that are left; of a linear layer, too.
        offset: what is added to the outputs, (1, O, H, W).
        side: height and width of its input.
    """
    if block.weight.dim() == 2:
        return Dense(values(weight), offset.flatten())
    if offset.numel() * weight.shape[1] * side.numel() <= MATRIX:
        return Dense(matrix(block, weight, side), values(offset).flatten())
    return Convolution(weight, offset, block.stride, block.padding, side)


def matrix(block: Affine, weight: Tensor, side: torch.Size) -> Tensor:
    """Return a convolution's matrix, from and to values in the order of channels last."""
    pixels = side.numel()
    each = torch.eye(pixels, dtype=weight.dtype, device=weight.device).view(pixels, 1, *side)
    rows = block(each, weight.flatten(0, 1).unsqueeze(1))  # the filter of each pair of channels
    rows = rows.view(pixels, *weight.shape[:2], *rows.shape[2:])
    return rows.permute(3, 4, 1, 0, 2).reshape(-1, pixels * weight.shape[1])


#: Makes a layer, as ``dense_layer`` does.
Make = Callable[[Affine, Tensor, Tensor, torch.Size], Layer]


@torch.no_grad()
def chain_of(modules: Iterable[nn.Module], x: Tensor, make: Make = dense_layer) -> Chain:
    """Return the chain that computes what the modules compute one after the other.

    Args:
        modules: from pixels to logits, in eval mode. The first may have a method
            ``factor_and_shift``: how it scales each channel, (C, 1, 1) both.
        x: images (N, C, H, W), of which only shape, type and device are read.
        make: makes each layer, as ``dense_layer`` does.

    Raises:
        NoChainError: if they are none.
    """
    every = list(_flattened(modules))
    factor, shift = x.new_ones(()), x.new_zeros(())
    if every and hasattr(type(every[0]), "factor_and_shift"):
        factor, shift = every.pop(0).factor_and_shift()  # type: ignore[operator]
    constant = x.new_zeros(1, *x.shape[1:]) + shift
    return Chain(_narrowed(_blocks(every), factor, constant, make))


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


def _narrowed(blocks: list[Affine], factor: Tensor, constant: Tensor, make: Make) -> list[Layer]:
    """Return the layers, as wide as what depends on the pixels.

    Args:
        blocks: all but the last with a ReLU.
        factor: of the pixels, (C, 1, 1).
        constant: what is added to them then, (1, C, H, W); later what the channels that are left
            out give to the next layer.
        make: makes each layer.
    """
    layers: list[Layer] = []
    live = torch.ones(constant.shape[1], dtype=torch.bool, device=constant.device)
    highest = torch.ones_like(constant)  # of the live channels, whose lowest value is 0
    for block in blocks:
        weight, side = block.kernel(constant), constant.shape[2:]
        offset = block(constant, weight, block.bias)
        weight, factor = weight[:, live] * factor, factor.new_ones(())
        if not block.active:
            return [*layers, make(block, weight, offset, side)]
        highest = block(highest, weight.clamp_min(0)) + offset
        still = (weight == 0).flatten(1).all(1)
        live = ~still & ~(highest.amax((0, 2, 3)) <= 0)  # a filter of NaN stays
        if not live.any():
            live[0] = True
        layers += [make(block, weight[live], offset[:, live], side), Relu()]
        constant = torch.where((still & ~live).view(-1, 1, 1), offset.relu(), 0)
        highest = highest[:, live].clamp_min(0)
    return layers


def lean_view(model: nn.Module, x: Tensor) -> nn.Module:
    """Return what computes the logits of ``model`` faster while its weights do not change.

    That is a chain without the channels that do not depend on the pixels, where ``model`` is an
    ``nn.Sequential`` that can be one and ``SPARSE`` of its weights are zero, by masks or in itself,
    on a processor and in fp32. Any other network is returned itself, and so are one that is
    compiled and one whose layers somebody watches.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        x: images, of which only shape, type and device are read.
    """
    if x.is_cuda or speed.compiles() or not len(x) or any(map(_does_more, model.modules())):
        return model
    with effective_network(model) as net:
        if not isinstance(net, nn.Sequential) or not mostly_zero(net):
            return model
        try:
            return chain_of([net], x)
        except NoChainError:
            return model


def mostly_zero(net: nn.Module) -> bool:
    """Return whether ``SPARSE`` of the weights are zero, biases and their like left out."""
    weights = [weight for weight in net.parameters() if weight.dim() > 1]
    kept = sum(int(weight.count_nonzero()) for weight in weights)
    return 1 - kept / max(sum(weight.numel() for weight in weights), 1) >= SPARSE


def _does_more(module: nn.Module) -> bool:
    """Return whether calling a module does more than its class says: hooks, bf16."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    hooks_back = (module._backward_hooks, module._backward_pre_hooks)
    replaced = "forward" in module.__dict__ or isinstance(module, speed.Mixed)
    return replaced or any(hooks) or any(hooks_back)
