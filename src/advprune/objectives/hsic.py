"""Dependence between a batch of features and images or labels: the normalised HSIC.

Fukumizu et al. 2008 (NOCCO); as a bottleneck for robustness Wang et al. 2021,
https://arxiv.org/abs/2106.02734. For a kernel matrix K of m rows, centred as K H, it compares
R = KH (KH + eps m I)^-1 of both sides by the trace of their product.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.frozen import hooked

EPS = 1e-5


def gaussian(x: Tensor, sigma: float = 5.0) -> Tensor:
    """Return the kernel exp(-||a - b||^2 / (2 sigma^2 d)) of the rows of ``x``, (m, m).

    Args:
        x: (m, ...), d numbers a row.
        sigma: width, in units of one number's spread.
    """
    flat = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
    squares = flat.square().sum(1)
    distances = (squares[:, None] + squares - 2 * flat @ flat.T).clamp_min(0)
    return torch.exp(-distances / (2 * sigma**2 * flat.shape[1]))


def of_labels(y: Tensor, classes: int) -> Tensor:
    """Return the linear kernel of one-hot labels, (m, m): 1 where two are of one class."""
    hot = F.one_hot(y, classes).to(torch.get_default_dtype())
    return hot @ hot.T


def nhsic(kernel: Tensor, other: Tensor) -> Tensor:
    """Return the normalised dependence of two kernel matrices of the same m rows, a scalar.

    It is 0 if one side is constant, and at most m - 1.
    """
    return (_normalised(kernel) * _normalised(other).T).sum()


def _normalised(kernel: Tensor) -> Tensor:
    rows = len(kernel)
    centred = kernel - kernel.mean(1, keepdim=True)
    shift = EPS * rows * torch.eye(rows, dtype=kernel.dtype, device=kernel.device)
    # X = KH (KH + shift)^-1, solved from the left
    return torch.linalg.solve((centred + shift).T, centred.T).T


@contextmanager
def stage_outputs(model: nn.Module) -> Iterator[dict[tuple[int, ...], Tensor]]:
    """Record the last map (m, C, H, W) of each resolution that the model computes meanwhile.

    Yields:
        Maps by their (H, W), filled by a forward pass inside.
    """
    maps: dict[tuple[int, ...], Tensor] = {}

    def see(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            maps[tuple(output.shape[2:])] = output

    with hooked([module.register_forward_hook(see) for module in model.modules()]):
        yield maps
