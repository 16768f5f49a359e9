"""Conversion of torch's layers into operations that bounds know."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.bounds.nonlinear_ops import MaxPool, Relu
from advprune.bounds.ops import Elementwise, NonNegative, Op, Weighted
from advprune.errors import UserError


def of_module(module: nn.Module) -> list[Op] | None:
    """Return the operations of a layer, none for an identity; None if bounds do not know it."""
    if isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
        return []
    if isinstance(module, nn.Linear):
        return [Weighted(module)]
    if isinstance(module, nn.Conv2d):
        plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return [Weighted(module)] if plain else None
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return [Elementwise(partial(_folded, module))]
    if isinstance(module, nn.ReLU):
        return [Relu()]
    if isinstance(module, nn.ReLU6):  # min(max(x, 0), 6) = 6 - max(6 - max(x, 0), 0)
        return [
            Relu(),
            Elementwise(lambda _: (-1.0, 6.0)),
            Relu(),
            Elementwise(lambda _: (-1.0, 6.0)),
        ]
    if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return [NonNegative(module.forward)]
    if isinstance(module, nn.Flatten):
        return [NonNegative(module.forward, moves=True)] if module.start_dim == 1 else None
    return _pool(module)


def _pool(module: nn.Module) -> list[Op] | None:
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return [MaxPool(partial(_adaptive_max, module), overlap=True)]
    if not isinstance(module, nn.MaxPool2d) or module.return_indices:
        return None
    m = module
    options: dict[str, Any] = {
        "padding": m.padding,
        "dilation": m.dilation,
        "ceil_mode": m.ceil_mode,
        "return_indices": True,
    }
    kernel, stride, dilation = (
        torch.as_tensor(v).expand(2) for v in (m.kernel_size, m.stride, m.dilation)
    )
    overlap = bool(((kernel > stride) | (dilation > 1)).any())
    return [MaxPool(lambda x: F.max_pool2d(x, m.kernel_size, m.stride, **options), overlap=overlap)]


def _adaptive_max(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    return F.adaptive_max_pool2d(x, module.output_size, return_indices=True)


def _folded(norm: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return BatchNorm with running statistics as a scale and a shift, (C,) or (C, 1, 1)."""
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias
    shape = (-1,) if like.dim() == 2 else (-1, 1, 1)
    return scale.view(shape).to(like.dtype), shift.view(shape).to(like.dtype)


def refuse_training(module: nn.Module) -> None:
    """Refuse a layer in train mode, whose output depends on the batch or on chance.

    Raises:
        UserError: if the layer is in train mode, or has no running statistics.
    """
    kind = type(module).__name__
    if module.training or getattr(module, "running_mean", module) is None:
        raise UserError(
            f"bounds need {kind} in eval mode: in train mode its output depends on the batch; call "
            "model.eval() to certify, and train with bounds on a network without it, such as "
            "model=cnn_small"
        )
