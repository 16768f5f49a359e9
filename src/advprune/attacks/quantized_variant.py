"""Attack a differentiable variant of a quantized network, and evaluate on the network itself.

The float twin is how https://arxiv.org/abs/2206.07406 attacks int8; the fake-quantized variant
gives straight-through gradients (backward pass differentiable approximation, Athalye et al. 2018,
https://arxiv.org/abs/1802.00420). A network that is not quantized is its own variant.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from advprune.errors import UserError


def attack_variant(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    variant: Literal["float_twin", "fake_quant"],
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    """Craft adversarial images on a variant of the network.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); has ``variants``
            by name, if it is quantized.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        variant: name of the variant.
        attack: ``(model, x, y) -> x_adv``, run on the variant.

    Returns:
        x_adv (N, C, H, W).

    Raises:
        UserError: if a quantized network has no such variant.
    """
    variants = getattr(model, "variants", None)
    if variants is None:
        return attack(model, x, y)
    if variant not in variants:
        raise UserError(f"attack.variant={variant} is not one of {', '.join(variants)}")
    return attack(variants[variant], x, y)
