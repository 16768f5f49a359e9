"""A network's names and shapes without its numbers, in milliseconds: built on the meta device."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from advprune.errors import UserError

FILLS = frozenset(
    (
        "normal_",
        "uniform_",
        "trunc_normal_",
        "kaiming_normal_",
        "kaiming_uniform_",
        "xavier_normal_",
        "xavier_uniform_",
        "zero_",
        "fill_",
        "zeros_",
        "ones_",
        "constant_",
    )
)
Builder = Callable[..., nn.Module]
Options = dict[str, Any]


class _Undrawn(TorchFunctionMode):
    """A mode that draws no weights: on the meta device that costs more than all else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Skip what fills a tensor in place."""
        arguments = kwargs or {}
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else arguments["tensor"]
        return func(*args, **arguments)


def shapes_of(builder: Builder, options: Options, data: Options) -> dict[str, Tensor] | None:
    """Return the state dict of a network without numbers; None where its builder refuses.

    Args:
        builder: of the network, as conf/model's ``_target_`` names it.
        options: of the network.
        data: what its data set says.
    """
    try:
        with torch.device("meta"), _Undrawn():
            return builder(**data, **options).state_dict()
    except UserError:
        return None


def choices(builder: Builder) -> dict[str, tuple[Any, ...]]:
    """Return the options that are a word or a switch, with all that each may be."""
    constructor = builder if inspect.isfunction(builder) else vars(builder)["__init__"]
    annotations = inspect.get_annotations(constructor, eval_str=True)
    by_option = {name: _values(annotation) for name, annotation in annotations.items()}
    return {name: values for name, values in by_option.items() if values}


def _values(annotation: object) -> tuple[Any, ...]:
    if annotation is bool:
        return True, False
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return ()
