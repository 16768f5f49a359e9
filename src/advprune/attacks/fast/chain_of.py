"""Read a traced network as a chain of layers, without the channels that no image switches on."""

import operator
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advprune.attacks.fast.chain import Chain, Convolution, Dense, Layer, Relu, Scale

FLATTEN, RELU = (torch.flatten, "flatten"), (F.relu, torch.relu, "relu")


class _NoChainError(Exception):
    """The network is no chain, or has a layer that ``chain.py`` lacks."""


@torch.no_grad()
def chain_of(net: nn.Module, x: Tensor) -> Chain | None:
    """Return the network as a chain, or None if it is none.

    Args:
        net: a traced network from pixels to logits, BatchNorm folded, in eval mode.
        x: images (N, C, H, W), N >= 1, of which only the shape is read.
    """
    if not isinstance(net, fx.GraphModule):
        return None
    try:
        layers = list(_layers(net, x[:1].contiguous(memory_format=torch.channels_last)))
    except _NoChainError:
        return None
    drop_dead_channels(layers, x.shape[1], x.device)
    first = next((layer for layer in layers if isinstance(layer, Convolution)), None)
    if first is not None:
        first.write_out(x)
    return Chain(layers)


def _layers(net: fx.GraphModule, x: Tensor) -> Iterator[Layer]:
    """Yield the layers in the order in which they run; ``x`` is one image."""
    modules, flat, mean = dict(net.named_modules()), False, None
    for node in _nodes(net):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if node.target is operator.sub and mean is None:
            mean = _constant(net, node.args[1])
            continue
        if isinstance(module, nn.Flatten) or node.target in FLATTEN:
            flat = True
            continue
        if isinstance(module, nn.Identity | nn.Dropout):
            continue
        layer = _layer(net, node, module, x, mean, flat=flat)
        mean, x = None, layer.forward(x)
        yield layer


def _nodes(net: fx.GraphModule) -> Iterator[fx.Node]:
    """Yield the operations, each of which must take the output of the one before, alone."""
    last: fx.Node | None = None
    for node in net.graph.nodes:
        if node.op == "get_attr":
            continue
        if node.op == "output":
            return
        if last is not None:
            if node.args[:1] != (last,) or len(last.users) != 1:
                raise _NoChainError
            yield node
        last = node


def _layer(
    net: fx.GraphModule,
    node: fx.Node,
    module: nn.Module | None,
    x: Tensor,
    mean: Tensor | None,
    *,
    flat: bool,
) -> Layer:
    if node.target is operator.truediv and mean is not None:
        return Scale(mean, _constant(net, node.args[1]))
    if mean is not None:
        raise _NoChainError
    if isinstance(module, nn.ReLU) or node.target in RELU:
        return Relu()
    if isinstance(module, nn.Conv2d) and not flat and _is_plain(module):
        return Convolution(module.weight, module.bias, module)
    if isinstance(module, nn.Linear) and flat:
        weight = module.weight
        if x.dim() == 4:
            weight = weight.view(-1, *x.shape[1:]).permute(0, 2, 3, 1).flatten(1)
        return Dense(weight.contiguous(), module.bias)
    raise _NoChainError


def _is_plain(conv: nn.Conv2d) -> bool:
    ordinary = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    return ordinary and not isinstance(conv.padding, str)


def _constant(net: fx.GraphModule, node: object) -> Tensor:
    """Return the buffer of shape (C, 1, 1) that a node reads."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        raise _NoChainError
    value = net
    for name in str(node.target).split("."):
        value = getattr(value, name)
    if not isinstance(value, Tensor) or value.dim() not in (3, 4):
        raise _NoChainError
    return value


def drop_dead_channels(layers: list[Layer], channels: int, device: torch.device) -> None:
    """Drop the filters whose output is never positive for pixels in [0, 1], by interval bounds.

    Args:
        layers: from pixels to logits; their weights are replaced.
        channels: of the images.
        device: of the weights.
    """
    low, high = torch.zeros(channels, device=device), torch.ones(channels, device=device)
    for place, layer in enumerate(layers):
        if isinstance(layer, Scale):
            ends = torch.stack([layer.forward(end.view(-1, 1, 1)).flatten() for end in (low, high)])
            low, high = ends.amin(0), ends.amax(0)
        if not isinstance(layer, Convolution):
            continue
        relu, reader = [*layers[place + 1 : place + 3], None, None][:2]
        if not isinstance(relu, Relu) or not isinstance(reader, Convolution | Dense):
            return
        high = _highest(layer, low, high)
        live = high > 0
        if not bool(live.any()):
            return
        low, high = torch.zeros_like(high[live]), high[live]
        layer.keep_filters(live)
        reader.keep_inputs(live)


def _highest(layer: Convolution, low: Tensor, high: Tensor) -> Tensor:
    """Return the upper bound of each filter's output, (O,), from those of its inputs, (C,) each."""
    wide = [end.to(layer.weight).view(1, -1, 1, 1) for end in (low.clamp_max(0), high.clamp_min(0))]
    most = torch.maximum(layer.weight * wide[0], layer.weight * wide[1]).flatten(1).sum(1)
    return most if layer.bias is None else most + layer.bias
