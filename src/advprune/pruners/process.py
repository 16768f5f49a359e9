"""A pruner that trains: what a method does at each moment of its phase.

Every hook has a neutral default, so that a method overrides two to four of them.
``surgery/subnet.py`` asks for the effective weights once a step, and one LightningModule,
``modules/pruner_training.py``, calls the rest, without gradients where they are not named.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.masks import Masks, Scores, buffer_name
from advprune.pruners.task import Task

Batches = Iterable[tuple[Tensor, Tensor]]


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

    def stretched(self, first: int, length: int) -> int:
        """Return the step's place in a schedule that ``length`` epochs from ``first`` take."""
        per_epoch = self.steps // max(self.epochs, 1)
        return (self.step - first * per_epoch) * self.steps // max(length * per_epoch, 1)

    def steps_of(self, epochs: float) -> int:
        """Return how many steps so many epochs take, at least one."""
        return max(round(epochs * self.steps / max(self.epochs, 1)), 1)


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
    for bit. Each rank calls every hook with the same values; what is drawn is drawn from
    ``task.generator``.

    Args:
        net: the network that the phase starts from, which the process may change in ``start`` only.
        task: what is asked for.

    Raises:
        UserError: if the task has rounds, and the method none.
    """

    #: Whether several ratios of ``task`` share the phase; else there is one.
    takes_rounds = False
    #: Whether masks of whole filters, by a scope of filters, serve as well as those of weights.
    prunes_filters = False
    #: Whether it trains weights through two factors where ``task.through`` says so.
    reparametrises = False
    #: Whether masks are what the scope makes of scores; else single weights come and go.
    masks_by_scope = True
    #: Whether the scope says how many weights each layer keeps; else only the total counts.
    follows_scope = True
    #: Whether ``after_epoch`` wants robust accuracy on as many training images as there are of
    #: validation, which costs as much as a validation.
    measures_training = False

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        if len(task.ratios) > 1 and not self.takes_rounds:
            raise UserError(
                f"pruner.rounds={len(task.ratios)} is not looked at: {type(self).__name__} has no "
                "rounds; give pruner.schedule=one_shot pruner.rounds=1"
            )
        parameters = dict(net.named_parameters())
        self.task = task
        # a plain dict: the weights are the network's and saved with it
        self.weights = {name: parameters[name] for name in task.names}
        self._masks = nn.Module()
        for name, weight in self.weights.items():
            kept = torch.ones_like(weight, dtype=torch.bool)
            if task.within is not None:
                kept &= task.within[name].to(kept.device)
            self._masks.register_buffer(buffer_name(name), kept)

    def check(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a phase that the method cannot make anything of.

        Called before anything is trained, too.

        Args:
            epochs: of the phase.
            optimizer: of its ``groups``.

        Raises:
            UserError: with what is possible.
        """

    def start(self, net: nn.Module, batches: Batches) -> None:
        """Choose the first masks, factors or duals; a criterion may be asked.

        It is called once, before the first step, and not when a killed run goes on.

        Args:
            net: the network, on the device that trains.
            batches: training batches (x, y), loaded only if they are looked at.
        """

    def groups(self, net: nn.Module) -> list[Group]:
        """Return what trains; by default every parameter of the network that requires a gradient.

        A method that freezes weights sets their ``requires_grad`` here.
        """
        return [Group([p for p in net.parameters() if p.requires_grad])]

    def held_in_eval(self, net: nn.Module) -> list[nn.Module]:
        """Return the modules that stay in eval mode while the rest trains."""
        return []

    def effective(self, name: str, weight: Tensor) -> Tensor:
        """Return the weight that the network computes with, with a graph to what trains.

        Called once a step for each removable weight; all forwards of the step share the result.
        """
        return weight * self.mask(name).to(weight.dtype)

    def penalty(self, now: Moment) -> Tensor | None:
        """Return a scalar added to the loss once a step, outside the attack; None adds nothing.

        It has a graph to what trains.
        """
        return None

    def schedule_step(self, now: Moment) -> int:
        """Return which step of the phase's learning-rate schedule this step has: the same.

        Rounds that each train anew go through the schedule once each.
        """
        return now.step

    def before_step(self, now: Moment) -> None:
        """Change masks before the step's first forward pass."""

    def choose(self, now: Moment) -> None:
        """Let masks follow what is learned, after ``before_step``, and before a validation too.

        It depends on the present parameters alone, so whoever perturbs them may call it again.
        """

    def after_backward(self, now: Moment) -> None:
        """Read or change gradients before the optimizer steps; ranks have averaged them."""

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """Regrow, rewire or project after the optimizer has stepped; see ``zero_dead``."""

    def after_epoch(self, now: Moment, measured: Mapping[str, float]) -> None:
        """React to an epoch's end: multipliers, triggers.

        Args:
            now: the moment after the epoch's last step.
            measured: ``clean_acc``, ``robust_acc`` and ``loss`` on validation images, attacked;
                ``train_robust_acc`` if ``measures_training``.
        """

    def done(self) -> bool:
        """Return whether the phase ends now, before its last epoch."""
        return False

    def finish(self, net: nn.Module) -> None:
        """Choose the final masks, with exact counts, after the last step."""

    def result(self) -> dict[str, Any]:
        """Return what the table or the report says of the phase, as plain values."""
        return {}

    def scores(self) -> Scores:
        """Return the learned importance of each weight, by which filters can be ranked, or {}."""
        return {}

    def final_weights(self) -> dict[str, Tensor]:
        """Return the values of the removable weights in the end; masks are applied afterwards."""
        return {name: weight.detach() for name, weight in self.weights.items()}

    def on_target(self) -> bool:
        """Return whether as many weights are kept as ``ratio`` asks for: only then judge."""
        return sum(int(self.mask(name).sum()) for name in self.weights) == self.task.kept(
            {name: weight.shape for name, weight in self.weights.items()}
        )

    def magnitudes(self) -> Scores:
        """Return |weight| of each removable weight: the scores of magnitude pruning."""
        return {name: weight.detach().abs() for name, weight in self.weights.items()}

    def keep_largest(self) -> None:
        """Mask all but the largest weights, as many as the scope says."""
        self.set_masks(self.task.masks(self.magnitudes()))

    def masks(self) -> Masks:
        """Return a copy of the masks."""
        return {name: self.mask(name).clone() for name in self.weights}

    def mask(self, name: str) -> Tensor:
        """Return the mask of one weight, which is changed in place by ``set_masks`` alone."""
        return self._masks.get_buffer(buffer_name(name))

    def set_masks(self, masks: Masks) -> None:
        """Replace masks of removable weights, on every rank by those of rank 0."""
        chosen = {name: masks[name] for name in self.weights if name in masks}
        with torch.no_grad():
            for name, mask in collectives.broadcast_masks(chosen).items():
                self.mask(name).copy_(mask)

    def zero_dead(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set dead weights, and the optimizer's state under them, to zero."""
        for name, weight in self.weights.items():
            self._zero(weight, ~self.mask(name), optimizer)

    @staticmethod
    def _zero(
        parameter: nn.Parameter, dead: Tensor, optimizer: torch.optim.Optimizer | None
    ) -> None:
        state = {} if optimizer is None else optimizer.state.get(parameter, {})
        with torch.no_grad():
            for value in (parameter, *state.values()):
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(dead, 0)
