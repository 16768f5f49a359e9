"""Evaluate a loss twice on the same attacked images, and with the same random numbers."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

#: ``(model, x, y, *, progress) -> loss``
Objective: TypeAlias = Callable[..., Tensor]


class RememberedAttack:
    """Attack in the first evaluation of a loss; give the same images to the next.

    The random state comes back with them, so that whatever the loss draws afterwards is the same,
    too.

    Args:
        attack: ``(model, x, y) -> x_adv``.
    """

    def __init__(self, attack: Callable[..., Tensor]) -> None:
        self.attack = attack
        self._made: list[tuple[Tensor, list[Tensor]]] = []
        self._next = 0

    @property
    def replays(self) -> bool:
        """Return whether the next call gives images that are made already, whatever it is told."""
        return self._next < len(self._made)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the attacked images (N, C, H, W)."""
        if not self.replays:
            self._made.append((self.attack(model, x, y), random_state(x.device)))
        x_adv, state = self._made[self._next]
        restore_random_state(x.device, state)
        self._next += 1
        return x_adv

    def rewind(self) -> None:
        """Begin the next evaluation."""
        self._next = 0


def remembering(objective: Objective) -> tuple[Objective, RememberedAttack | None]:
    """Return the objective with an attack that remembers, and that attack; None without one."""
    attack = objective.keywords.get("attack") if isinstance(objective, partial) else None
    if attack is None:
        return objective, None
    remembered = RememberedAttack(attack)
    return partial(objective, attack=remembered), remembered


def random_state(device: torch.device) -> list[Tensor]:
    """Return the state of the generators that a network on this device draws from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def restore_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Go on drawing from a state that ``random_state`` returned."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
