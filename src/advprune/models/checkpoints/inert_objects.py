"""Stand-ins for the objects beside the weights in a checkpoint: each is read and does nothing.

A checkpoint often keeps the options and the best accuracy of its training: an
``argparse.Namespace``, a numpy scalar, an omegaconf tree. torch's restricted reader refuses them
all. Here it is given a stand-in for each of these names: the real class or function is neither
imported nor called, so nothing from the file can run, whatever it holds.
"""

from collections import OrderedDict
from math import prod
from typing import Any

import torch
from torch import Tensor


class Inert:
    """Stand in for any object of a checkpoint; keep its arguments and state, and do nothing."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: object) -> "Inert":
        """Keep the arguments."""
        instance = super().__new__(cls)
        instance.args, instance.state = args, None
        return instance

    def __init__(self, *_: object) -> None:
        """Do nothing, whatever is passed."""

    def __setstate__(self, state: object) -> None:
        """Keep the state."""
        self.state = state


def _mapping(*_: object) -> OrderedDict[Any, Any]:
    """Stand in for dictionaries of a class of their own; their entries follow."""
    return OrderedDict()


def _sequence(*_: object) -> list[Any]:
    """Stand in for sequences of a class of their own; their entries follow."""
    return []


_NUMPY = ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
_NODES = (
    *("AnyNode", "IntegerNode", "FloatNode", "BooleanNode", "StringNode"),
    *("PathNode", "BytesNode", "EnumNode", "ValueNode", "UnionNode"),
)
_PATHS = (
    *("Path", "PosixPath", "WindowsPath"),
    *("PurePath", "PurePosixPath", "PureWindowsPath"),
)
_PLAIN = (
    *("int", "float", "str", "bool", "bytes"),
    *("list", "dict", "tuple", "range", "slice", "frozenset"),
)
_DATA = (
    *(f"numpy.{core}.{name}" for core in ("core", "_core") for name in _NUMPY),
    *(
        "numpy.dtype",
        "numpy.ndarray",
        "argparse.Namespace",
        "types.SimpleNamespace",
        "uuid.UUID",
        "decimal.Decimal",
    ),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"pathlib{at}.{name}" for at in ("", "._local") for name in _PATHS),
    *(f"builtins.{name}" for name in _PLAIN),
    *(f"omegaconf.nodes.{name}" for name in _NODES),
    *(
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.listconfig.ListConfig",
        "omegaconf.base.ContainerMetadata",
        "omegaconf.base.Metadata",
        "omegaconf.base.SCMode",
        "typing.Any",
        "typing.Union",
    ),
    *(
        f"torch.optim.lr_scheduler.{name}"
        for name in (
            "StepLR",
            "MultiStepLR",
            "CosineAnnealingLR",
            "LambdaLR",
            "ExponentialLR",
            "OneCycleLR",
            "CyclicLR",
        )
    ),
)
_DICTIONARIES = (
    *(
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
    ),
    *(
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "easydict.EasyDict",
        "yacs.config.CfgNode",
        "munch.Munch",
    ),
    *("addict.addict.Dict", "box.box.Box", "ml_collections.config_dict.config_dict.ConfigDict"),
)
_CALLS = {"collections.defaultdict": _mapping, "collections.deque": _sequence}

#: What ``torch.serialization.safe_globals`` is given: stand-ins, under the names of what they stand
#: for.
STAND_INS: list[Any] = [
    *((Inert, name) for name in _DATA),
    *((OrderedDict, name) for name in _DICTIONARIES),
    *((instance, name) for name, instance in _CALLS.items()),
]

_DTYPES = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i8": torch.int64,
    "i4": torch.int32,
    "u1": torch.uint8,
    "b1": torch.bool,
}


def tensor(value: object) -> Tensor | None:
    """Return the numbers of a pickled numpy array, which are its bytes; None for anything else."""
    state = value.state if isinstance(value, Inert) else None
    if not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, kind, columns_first, content = state
    name = kind.args[0] if isinstance(kind, Inert) and kind.args else None
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    little = (
        isinstance(kind, Inert)
        and isinstance(kind.state, tuple)
        and kind.state[1:2] in (("<",), ("|",))
    )
    if (
        dtype is None
        or not little
        or not isinstance(content, bytes)
        or not isinstance(shape, tuple)
        or columns_first
    ):
        return None
    if (
        not all(isinstance(side, int) and side >= 0 for side in shape)
        or len(content) != prod(shape) * dtype.itemsize
    ):
        return None
    return (
        torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)
        if content
        else torch.zeros(shape).to(dtype)
    )
