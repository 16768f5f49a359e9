"""What training has compiled (``trainer.compile``): who repeats the same step many times asks here for a fast one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


class _State:
    mode: str | None = None


@contextmanager
def compiling(mode: str | None) -> Iterator[None]:
    """Inside, ``compiled`` compiles in this mode of ``torch.compile``; what was compiled is forgotten afterwards."""
    before, _State.mode = _State.mode, mode
    try:
        yield
    finally:
        _State.mode = before
        # the next phase has another network, and torch.compile gives up on too many of them
        if mode is not None:
            _made.cache_clear()
            torch.compiler.reset()


def wanted() -> bool:
    """Whether training asked for it."""
    return _State.mode is not None


def compiled(function: F) -> F:
    """``function`` as one graph, in the mode asked for.

    Raises:
        ValueError: where nobody asked.
    """
    if _State.mode is None:
        raise ValueError("nothing is compiled here")
    return _made(function, _State.mode)


@cache
def _made(function: F, mode: str) -> F:
    return cast(F, torch.compile(function, mode=mode))
