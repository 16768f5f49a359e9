"""Small operations on each row of a batch, shared by the parts."""

import torch
from torch import Tensor


def wide(values: Tensor) -> Tensor:
    """Shape one value per row (R,) to multiply images (R, C, H, W)."""
    return values.view(-1, 1, 1, 1)


def pick(logits: Tensor, label: Tensor) -> Tensor:
    """Return the logit of each row's label, (R,)."""
    return logits.gather(1, label[:, None]).squeeze(1)


def length(x: Tensor, norm: str) -> Tensor:
    """Measure each row in ``linf`` or ``l2``: (R,)."""
    return x.flatten(1).abs().amax(1) if norm == "linf" else x.flatten(1).norm(dim=1)


def unit(x: Tensor, norm: str) -> Tensor:
    """Scale each row to length 1 in ``linf`` or ``l2``; zero stays zero."""
    return x / (wide(length(x, norm)) + 1e-12)


def spread(logits: Tensor) -> Tensor:
    """Return the distance from the lowest to the highest logit of each row, (R,)."""
    return logits.amax(1) - logits.amin(1)


def put(state: dict[str, Tensor], where: Tensor, **values: Tensor) -> None:
    """Replace the named entries of ``state`` in the rows where ``where`` (R,) is true."""
    for name, value in values.items():
        old = state[name]
        state[name] = torch.where(where.view(-1, *[1] * (old.dim() - 1)), value.to(old.dtype), old)
