"""Lay a network out in memory and compile it for one phase; only the rounding may differ."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from advprune.distributed.environment import Trainer
from advprune.runtime.speed import compiling
from advprune.surgery.subnet import Subnet

#: Side in pixels up to which the layout makes no difference that was measured; see
#: docs/performance.md.
TINY_IMAGE = 16


def layout(trainer: Trainer, image_size: int) -> torch.memory_format:
    """Return the memory format of weights: the one asked for, or the one measured faster."""
    chosen = trainer.memory_format or (
        "contiguous" if image_size <= TINY_IMAGE else "channels_last"
    )
    return torch.channels_last if chosen == "channels_last" else torch.contiguous_format


@contextmanager
def optimized_layout(net: nn.Module, trainer: Trainer, image_size: int) -> Iterator[None]:
    """Inside, the network is laid out and compiled as the trainer says; afterwards as before.

    Images need no change: a convolution gives what it gives in the layout of its weights.

    Args:
        net: a network, or one seen through masks: then its plain network is compiled.
        trainer: its options ``memory_format`` and ``compile``.
        image_size: side of the images in pixels.
    """
    inner, mode = net.net if isinstance(net, Subnet) else net, trainer.compile
    net.to(memory_format=layout(trainer, image_size))
    if mode is not None:
        inner.compile(mode=mode)
    try:
        with compiling(mode):
            yield
    finally:
        inner._compiled_call_impl = None
        net.to(memory_format=torch.contiguous_format)
