"""Trace a network for quantization: which nodes make a value, and which only pass it on."""

import operator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advprune.errors import UserError

WEIGHTED = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6)
#: New numbers come out, which get a quantizer of their own.
MAKES = (*WEIGHTED, *NORMS, *ACTIVATIONS, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
MAKES_CALLS = {operator.add, operator.iadd, torch.add, F.relu, F.adaptive_avg_pool2d, torch.cat}
#: The numbers that go in come out, some of them, with zeros added: they stay on their grid.
KEEPS = (nn.MaxPool2d, nn.Flatten, nn.Dropout, nn.Identity)
KEEPS_CALLS = {F.pad, operator.getitem, torch.flatten}


class _Tracer(fx.Tracer):
    """A tracer that enters blocks and takes the standardisation of pixels as one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return standardises(m) or super().is_leaf_module(m, module_qualified_name)


def standardises(module: nn.Module) -> bool:
    """Return whether a layer subtracts a mean and divides by a deviation."""
    return all(isinstance(getattr(module, name, None), Tensor) for name in ("mean", "std"))


def traced(model: nn.Module) -> fx.Graph:
    """Return the graph of a network.

    Raises:
        UserError: if what it computes depends on values.
    """
    try:
        return _Tracer().trace(model)
    except (TypeError, NotImplementedError, fx.proxy.TraceError) as error:
        raise UserError(
            f"quantizer: {type(model).__name__} chooses what to compute by its values and cannot "
            f"be traced ({error})"
        ) from None


def inputs(node: fx.Node) -> tuple[Any, ...]:
    """Return a node's positional arguments."""
    return cast(tuple[Any, ...], node.args)


def of(net: fx.GraphModule, node: fx.Node) -> Any:
    """Return the module or the function that a node calls."""
    return net.get_submodule(str(node.target)) if node.op == "call_module" else node.target


def makes_value(net: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether new numbers come out of a node."""
    what = of(net, node)
    return (
        isinstance(what, MAKES)
        or (isinstance(what, nn.Module) and standardises(what))
        or _in(what, MAKES_CALLS)
    )


def keeps_value(net: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the numbers that go into a node come out of it."""
    return isinstance(of(net, node), KEEPS) or _in(of(net, node), KEEPS_CALLS)


def _in(what: object, calls: set[Any]) -> bool:
    return not isinstance(what, nn.Module) and any(what is call for call in calls)
