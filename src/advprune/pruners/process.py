"""A pruner that trains: what a method does at each moment of its phase.

Every hook has a neutral default, so that a method overrides two to four of them.
``surgery/subnet.py`` asks for the effective weights once a step, and one LightningModule,
``modules/pruner_training.py``, calls the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advprune.masks import Masks, Scores

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Task:
    """Say what a process is asked for.

    Attributes:
        ratio: share of the removable weights to be gone in the end, in [0, 1).
        spend: ``(scores, ratio) -> masks`` of the pruner's scope: exact counts, ties broken stably.
        names: the parameters that may be removed, in the network's order.
        seed: of the run.
        ratios: cumulative ratios, one a round; one alone where there is one round.
        within: masks of what a network that was sparse before has left; None: of all.
    """

    ratio: float
    spend: Callable[[Scores, float], Masks]
    names: tuple[str, ...]
    seed: int = 0
    ratios: tuple[float, ...] = ()
    within: Masks | None = None


@dataclass(frozen=True)
class Moment:
    """Say where in a phase training is, counted from 0.

    Attributes:
        step: of the optimizer, in the whole phase.
        steps: of the whole phase.
        epoch: pass over the images.
        epochs: of the whole phase.
    """

    step: int
    steps: int
    epoch: int
    epochs: int

    @property
    def progress(self) -> float:
        """Return the share of the phase that is done, in [0, 1)."""
        return self.step / max(self.steps, 1)


@dataclass(frozen=True)
class Group:
    """Parameters that train together, with factors on the recipe's learning rate and decay."""

    parameters: list[nn.Parameter]
    learning_rate: float = 1.0
    weight_decay: float = 1.0


class Process(nn.Module):
    """Prune while training runs; a method overrides the hooks that it needs.

    Parameters and buffers of a process are saved in each checkpoint, so what decides the rest of a
    run is a tensor registered here, or given by ``get_extra_state``; then a killed run goes on bit
    for bit. Each rank calls every hook with the same values; what is drawn is drawn from a
    generator of its own, seeded by ``task.seed`` and the step.

    Args:
        net: the dense network, which the process may change in ``start`` only.
        task: what is asked for.
    """

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        parameters = dict(net.named_parameters())
        self.task = task
        # a plain dict: the weights are the network's and saved with it
        self.weights = {name: parameters[name] for name in task.names}
        self._masks = nn.Module()
        for name, weight in self.weights.items():
            kept = torch.ones_like(weight, dtype=torch.bool)
            if task.within is not None and name in task.within:
                kept &= task.within[name].to(kept.device)
            self._masks.register_buffer(name.replace(".", ":"), kept)

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the first masks, scores, factors or duals; a criterion may be asked.

        It is called once, before the first step, and not when a killed run goes on.

        Args:
            net: the network, in eval mode, on the device that trains.
            batches: training batches (x, y), loaded only if they are looked at.
        """

    def groups(self, net: nn.Module) -> list[Group]:
        """Return what trains; by default every parameter of the network that requires a gradient.

        A method that freezes weights sets their ``requires_grad`` here.
        """
        return [Group([p for p in net.parameters() if p.requires_grad])]

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight that the network computes with, with a graph to what trains.

        Called once a step for each removable weight; all forwards of the step share the result.
        """
        return weight * self.mask(name).to(weight.dtype)

    def penalty(self, now: Moment) -> Tensor | None:
        """Return a scalar added to the loss once a step, outside the attack; None adds nothing."""
        return None

    def before_step(self, now: Moment) -> None:
        """Change masks before the step's first forward pass."""

    def after_backward(self, now: Moment) -> None:
        """Read or change gradients before the optimizer steps; ranks have averaged them."""

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Regrow, rewire or project after the optimizer has stepped.

        Weights that die here lose their optimizer state: see ``forget``.
        """

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """React to an epoch's end: multipliers, triggers.

        Args:
            now: the moment after the epoch's last step.
            measured: ``clean_acc``, ``robust_acc``, ``loss`` on validation images; ``train_loss``
                and ``train_robust_acc`` of the epoch; what was not measured is missing.
        """

    def done(self) -> bool:
        """Return whether the phase ends now, before its last epoch."""
        return False

    def finish(self, net: nn.Module) -> None:
        """Choose the final masks, with exact counts, after the last step."""

    def result(self) -> dict[str, Any]:
        """Return what the table or the report says of the phase, as plain values."""
        return {}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the values of the removable weights in the end; masks are applied afterwards."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    def masks(self) -> Masks:
        """Return a copy of the masks."""
        return {name: self.mask(name).clone() for name in self.weights}

    def mask(self, name: str) -> Tensor:
        """Return the mask of one weight, which is changed in place by ``set_masks`` alone."""
        return self._masks.get_buffer(name.replace(".", ":"))

    def set_masks(self, masks: Masks) -> None:
        """Replace masks, in place."""
        for name, mask in masks.items():
            if name in self.weights:
                self.mask(name).copy_(mask)


def forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, keep: Tensor) -> None:
    """Set the optimizer's state to zero where ``keep`` is False (momentum, Adam's moments)."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.mul_(keep.to(value.dtype))
