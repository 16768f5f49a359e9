"""Several attacks as one: an image counts as robust only if none of them fools the model on it.

The worst case per image of any attacks, as AutoAttack takes it of its four (Croce and Hein 2020,
https://arxiv.org/abs/2003.01690).
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advprune.attacks.monitor import AttackMonitor
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.logits import is_right


def worst_of(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    attacks: dict[str, Callable[..., Tensor]],
    trail: list[tuple[str, Tensor]] | None = None,
    positions: Tensor | None = None,
    monitor: AttackMonitor | None = None,
) -> Tensor:
    """Try the attacks in order, each on the images that are still right.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); evaluated in eval mode and restored
            afterwards.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        attacks: attacks by name, (model, x, y) -> x_adv; the cheapest first saves time.
        trail: a list to which (name, flags) is appended after each attack; flags (N,) bool say
            which images are still right.
        positions: places of the images in their test set (N,), for the attacks that take them.
        monitor: that hears which attack is under way, and what each has left.

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
    monitor = monitor or AttackMonitor()
    for place, (name, attack) in enumerate(attacks.items()):
        monitor.advance_part(name, place / len(attacks))
        if len(left):
            kwargs = {}
            if positions is not None and "positions" in inspect.signature(attack).parameters:
                kwargs["positions"] = positions[left]
            x_adv[left] = attack(model, x[left], y[left], **kwargs)
            with frozen(model), torch.no_grad():
                left = left[is_right(model(x_adv[left]), y[left])]
        right = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        right[left] = True
        monitor.finish_part(name, right)
        if trail is not None:
            trail.append((name, right))
    return x_adv
