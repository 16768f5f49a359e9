"""Ask for fp32 where bf16 is too coarse: where two nearly equal outputs are compared.

The start of TRADES' attack is 0.001 from the image, and bf16 has steps of 0.004 below 1: in bf16
both are one image, the divergence has no slope and the first attack step is lost.
docs/performance.md has what that does to training.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class _State:
    """Hold it for the process: an objective asks, and its network has no argument for it."""

    depth = 0


@contextmanager
def full_precision(needed: bool = True) -> Iterator[None]:
    """Inside, and if ``needed``, run in fp32 a network that otherwise runs in less."""
    _State.depth += needed
    try:
        yield
    finally:
        _State.depth -= needed


def wanted() -> bool:
    """Return whether full precision is asked for."""
    return _State.depth > 0
