"""An attack crafted on a face of a quantized network, and judged on the network.

The float twin is how https://arxiv.org/abs/2206.07406 attacks int8; the fake-quantized face gives
straight-through gradients (backward pass differentiable approximation,
https://arxiv.org/abs/1802.00420). A network that is not quantized is its own face.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from advprune.errors import UserError


def through(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    face: Literal["float_twin", "fake_quant"],
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    """Craft on the face.

    Args:
        model: with ``faces`` if it is quantized.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        face: which.
        attack: ``(model, x, y) -> x_adv``.

    Returns:
        x_adv (N, C, H, W).

    Raises:
        UserError: if a quantized network has no such face.
    """
    faces = getattr(model, "faces", None)
    if faces is None:
        return attack(model, x, y)
    if face not in faces:
        raise UserError(f"attack.face={face} is not one of {', '.join(faces)}")
    return attack(faces[face], x, y)
