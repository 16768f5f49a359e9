"""Use the caller's model or random state, and restore it afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode without parameter gradients, and restore it afterwards.

    Each module's mode and each parameter's ``requires_grad`` come back, whatever is raised inside.
    BatchNorm in eval mode does not move its statistics.
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


#: These do the same in both modes, and nothing at random.
MODELESS = (nn.Sequential, nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten, nn.Identity)


def ignores_mode(model: nn.Module) -> bool:
    """Return whether a network is known to give the same logits in train and in eval mode.

    It is if it consists of the layers above and scales of pixels (``factor_and_shift``) alone.
    """
    with effective_network(model) as net:
        return all(
            type(module) in MODELESS or hasattr(type(module), "factor_and_shift")
            for module in net.modules()
        )


@contextmanager
def hooked(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove the hooks of a network afterwards, whatever is raised inside."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def effective_network(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the network whose layers hold the effective weights.

    A network that computes its weights (masks times weights, for one) has a method ``pruned`` that
    provides it; any other network is its own.
    """
    if hasattr(type(model), "pruned"):
        with model.pruned() as net:  # type: ignore[operator]
            yield net
    else:
        yield model


class StaysInTraining(nn.Module):
    """Show an attack a network whose mode it cannot change, in the mode it is in.

    Args:
        net: pixels (N, C, H, W) -> logits (N, K); it stays the caller's.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits (N, K)."""
        logits: Tensor = self.net(x)
        return logits

    def train(self, mode: bool = True) -> "StaysInTraining":
        """Change nothing; ``eval`` comes here, too."""
        return self

    @contextmanager
    def pruned(self) -> Iterator[nn.Module]:
        """Inside, use the network whose layers hold the effective weights."""
        with effective_network(self.net) as net:
            yield net


@contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore torch's global random generators afterwards, whatever seeds or uses them inside."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
