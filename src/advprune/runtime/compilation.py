"""Compile what training repeats (``trainer.compile``): a loop asks here for its fast version."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])


class _State:
    """Hold the mode for the process: attacks inside an objective ask, without an argument."""

    mode: str | None = None


@contextmanager
def compiling(mode: str | None) -> Iterator[None]:
    """Inside, let ``compiled`` use this mode of ``torch.compile``; None compiles nothing.

    What was compiled is forgotten at the end.

    Args:
        mode: ``default``, ``reduce-overhead`` or ``max-autotune``.
    """
    before, _State.mode = _State.mode, mode
    try:
        yield
    finally:
        _State.mode = before
        # the next phase has another network, and torch.compile gives up on too many of them
        if mode is not None:
            _compile_once.cache_clear()
            torch.compiler.reset()


def wanted() -> bool:
    """Return whether training asked for compilation."""
    return _State.mode is not None


def compiled(function: F) -> F:
    """Return ``function`` compiled as one graph, in the mode that training asked for.

    Raises:
        ValueError: outside of ``compiling``.
    """
    if _State.mode is None:
        raise ValueError("nothing is compiled here")
    return _compile_once(function, _State.mode)


@cache
def _compile_once(function: F, mode: str) -> F:
    return cast(F, torch.compile(function, mode=mode))
