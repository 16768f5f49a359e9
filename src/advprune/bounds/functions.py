"""Translate the functions that a network calls into operations that bounds know."""

import operator
from collections.abc import Callable, Container
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from advprune.bounds.nonlinear_ops import Relu
from advprune.bounds.ops import Add, Elementwise, NonNegative, Op

_METHODS: dict[str, Any] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "flatten": torch.flatten,
    "mean": torch.mean,
    "relu": torch.relu,
}
_ARITHMETIC: dict[Any, Callable[..., tuple[Any, Any]]] = {
    operator.add: lambda read, like: (1.0, _as(read(), like)),
    operator.sub: lambda read, like: (1.0, -_as(read(), like)),
    operator.mul: lambda read, like: (_as(read(), like), 0.0),
    operator.truediv: lambda read, like: (1 / _as(read(), like), 0.0),
}


def of_call(
    node: fx.Node, sources: int, model: nn.Module, known: Container[fx.Node]
) -> list[Op] | None:
    """Return the operations of a function or method call; None if bounds do not know it.

    Args:
        node: of the trace of ``model``.
        sources: how many of its arguments are values that depend on the network's input.
        model: whose constants it may use.
        known: the nodes of such values.
    """
    target: Any = _METHODS.get(str(node.target), node.target)
    if sources == 2:
        return (
            [Add()]
            if target in (operator.add, operator.iadd, torch.add) and not node.kwargs
            else None
        )
    if sources != 1 or not isinstance(node.args[0], fx.Node):
        return None
    if target in _ARITHMETIC and len(node.args) == 2 and not node.kwargs:
        return _arithmetic(target, node, model, known)
    if target in (torch.relu, F.relu):
        return [Relu()]
    if target in (
        torch.flatten,
        torch.mean,
        F.pad,
        operator.getitem,
        F.avg_pool2d,
        F.adaptive_avg_pool2d,
    ):
        return _non_negative(target, node.args[1:], node.kwargs)
    return None


def _arithmetic(
    target: object, node: fx.Node, model: nn.Module, known: Container[fx.Node]
) -> list[Op] | None:
    """Return arithmetic with a number or a buffer of the network; None for other kinds."""
    other: Any = node.args[1]
    if node.args[0] not in known:
        return None  # a constant minus a value, or divided by one
    if isinstance(other, fx.Node):
        path, _, key = str(other.target).rpartition(".")
        read = partial(getattr, model.get_submodule(path), key)
        return [Elementwise(partial(_ARITHMETIC[target], read))]
    if not isinstance(other, int | float):
        return None
    return [Elementwise(partial(_ARITHMETIC[target], lambda: other))]


def _as(value: object, like: Tensor) -> Any:
    return value.to(like.dtype) if isinstance(value, Tensor) else value


def _non_negative(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Op] | None:
    """Return a linear map with weights >= 0 that treats each example by itself.

    Other uses of the same functions are None: a mean over examples, a pad with other values than
    zero, and the like.
    """
    index = args[0] if args else None
    if target is torch.flatten and (args, kwargs) not in (((1,), {}), ((), {"start_dim": 1})):
        return None
    if target is F.pad and (
        args[1:] not in ((), ("constant",), ("constant", 0))
        or kwargs.get("value")
        or kwargs.get("mode", "constant") != "constant"
        or min(args[0]) < 0
    ):
        return None
    if target is operator.getitem and not (
        isinstance(index, tuple) and index and index[0] == slice(None)
    ):
        return None
    dims = args[0] if args else kwargs.get("dim")
    if target is torch.mean and (
        dims is None or 0 in ((dims,) if isinstance(dims, int) else tuple(dims))
    ):
        return None
    return [
        NonNegative(
            lambda x: target(x, *args, **kwargs), moves=target in (torch.flatten, operator.getitem)
        )
    ]
