"""Read a traced network as modules that run one after the other."""

import operator
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advprune.attacks.fast.chain import NoChainError

FLATTEN, RELU = (torch.flatten, "flatten"), (F.relu, torch.relu, "relu")


class Scale(nn.Module):
    """Subtract ``mean`` and divide by ``std``, (C, 1, 1) each."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def factor_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return by what pixels are multiplied, and what is added then."""
        return 1 / self.std, -self.mean / self.std


def traced_modules(net: fx.GraphModule) -> Iterator[nn.Module]:
    """Yield modules that do what the nodes do, in the order in which they run.

    Raises:
        NoChainError: if a node takes more than the output of the one before, or is no module's.
    """
    modules, mean = dict(net.named_modules()), None
    for node in _nodes(net):
        if node.target is operator.sub and mean is None:
            mean = _constant(net, node.args[1])
            continue
        if (mean is None) is (node.target is operator.truediv):
            raise NoChainError
        if mean is not None:
            yield Scale(mean, _constant(net, node.args[1]))
            mean = None
        elif node.op == "call_module":
            yield modules[str(node.target)]
        elif node.target in FLATTEN and 1 in (*node.args[1:2], node.kwargs.get("start_dim")):
            yield nn.Flatten()
        elif node.target in RELU:
            yield nn.ReLU()
        else:
            raise NoChainError


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
                raise NoChainError
            yield node
        last = node


def _constant(net: fx.GraphModule, node: object) -> Tensor:
    """Return the buffer of shape (C, 1, 1) that a node reads."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        raise NoChainError
    value = net
    for name in str(node.target).split("."):
        value = getattr(value, name)
    if not isinstance(value, Tensor) or value.dim() not in (3, 4):
        raise NoChainError
    return value
