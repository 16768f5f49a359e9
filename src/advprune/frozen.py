"""Borrowing what is the caller's, a model or the random state, and giving it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """``model`` in eval mode with parameters that need no gradient; each module's mode and each flag come back.

    Whatever is raised inside, the model is restored. BatchNorm in eval mode does not move its
    statistics.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def effective_network(model: nn.Module) -> Iterator[nn.Module]:
    """The network whose layers hold the weights that count: of one seen through masks, the one it lends."""
    if hasattr(type(model), "pruned"):
        with model.pruned() as net:  # type: ignore[operator]
            yield net
    else:
        yield model


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Whatever seeds or draws from torch's global generators inside, they go on afterwards as if it had not."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
