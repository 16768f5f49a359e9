"""Look at a network that a program gives: its device, its classes, its logits."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import check
from advprune.threat import L2, Linf


def check_arguments(net: object, threat: object) -> None:
    """Refuse what is no network and no threat.

    Raises:
        UserError: saying what was given, and what to give.
    """
    if not isinstance(net, nn.Module):
        raise UserError(f"the network is a {type(net).__name__}: give a torch.nn.Module")
    if not isinstance(threat, Linf | L2):
        raise UserError(f"threat={threat}: give advprune.Linf(8 / 255) or advprune.L2(0.5)")


def device_of(net: nn.Module) -> torch.device:
    """Return the device that a network is on; the CPU of one without tensors.

    Raises:
        UserError: if it is on several, or on one that nothing can be computed on here.
    """
    tensors = [*net.parameters(), *net.buffers()]
    devices = sorted({str(tensor.device) for tensor in tensors}) or ["cpu"]
    if len(devices) > 1:
        raise UserError(
            f"the network is on {', '.join(devices)}: bring it to one device, net.to('cpu')"
        )
    device = torch.device(devices[0])
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"the network is on {device}: bring it to the CPU or to a CUDA device")
    return device


def count_classes(net: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return how many logits the network has, after a look at them.

    Args:
        net: left as it was.
        x: some images, (N, C, H, W).
        y: their labels, (N,).

    Raises:
        UserError: if it cannot take the images, or returns no logits.
    """
    with frozen(net), torch.no_grad():
        try:
            logits = net(x.to(device_of(net)))
        except RuntimeError as error:
            raise UserError(
                f"the network cannot take images of {tuple(x.shape)}: {str(error).splitlines()[0]}"
            ) from error
    width = logits.shape[1] if isinstance(logits, Tensor) and logits.dim() == 2 else 0
    classes = width or int(y.max()) + 1
    check(logits, images=len(x), classes=classes)
    return classes


def refuse_spent(batches: Iterable[object]) -> None:
    """Refuse what can be gone through only once, such as a generator.

    Raises:
        UserError: with the cure.
    """
    if iter(batches) is batches:
        raise UserError(
            f"a {type(batches).__name__} can be gone through only once, and every epoch needs its "
            "batches: give a list or a DataLoader"
        )
