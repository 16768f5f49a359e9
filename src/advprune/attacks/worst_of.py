"""Several attacks as one: an image counts as robust only if none of them fools the model on it.

The worst case per image, as in AutoAttack (Croce and Hein 2020, https://arxiv.org/abs/2003.01690),
of any attacks.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.prediction import is_right


def worst_of(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attacks: dict[str, Callable[..., Tensor]],
    trail: list[tuple[str, Tensor]] | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Try the attacks in the order given, cheapest first; each gets only the images that still stand.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); judged in eval mode, left as found.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        attacks: name -> attack(model, x, y) -> x_adv.
        trail: a list of the caller's to which (name, flags) are appended; flags (N,) bool: still
            right after it.
        positions: of the images in their test set (N,), for the attacks that take them.

    Returns:
        x_adv (N, C, H, W): per image the first that fooled the model, or the last attack's if none
        did.

    Raises:
        UserError: if there is no attack.
    """
    if not attacks:
        raise UserError("worst_of: attacks is empty; name at least one, such as attacks.pgd")
    x_adv = x.detach().clone()
    left = torch.arange(len(x), device=x.device)
    for name, attack in attacks.items():
        if len(left):
            keyed = positions is not None and "positions" in inspect.signature(attack).parameters
            given = {"positions": positions[left]} if positions is not None and keyed else {}
            x_adv[left] = attack(model, x[left], y[left], **given)
            with frozen(model), torch.no_grad():
                left = left[is_right(model(x_adv[left]), y[left])]
        if trail is not None:
            standing = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            standing[left] = True
            trail.append((name, standing))
    return x_adv
