"""Lottery tickets: train, prune, put the survivors back to where they began, repeat.

Frankle and Carbin 2019, https://arxiv.org/abs/1803.03635; with robust training Cosentino et al.
2019 (https://arxiv.org/abs/1912.02386), Wang et al. 2020, and Li et al. 2020, who train cheaply and
rank |w| over its layer's mean (scope ``normed``). Written from descriptions. Differs from the
authors' code: the rounds share the phase equally, each with the whole learning-rate schedule.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import buffer_name
from advprune.pruners.process import Group, Moment
from advprune.pruners.reparametrised import Reparametrised
from advprune.pruners.task import Task, round_of
from advprune.ranges import Positive, Weight


class Tickets(Reparametrised):
    """Prune by magnitude at the end of each round, and put all parameters back to their start.

    Args:
        net: the network that each round starts from, as a rule a new one.
        task: with one cumulative ratio a round.
        learning_rate: factor on the recipe's in the rounds, which is theirs alone; null: 1.
        weight_decay: the same of the weight decay.
    """

    takes_rounds = True
    made: Tensor

    def __init__(
        self,
        net: nn.Module,
        task: Task,
        *,
        learning_rate: Positive | None = None,
        weight_decay: Weight | None = None,
    ) -> None:
        super().__init__(net, task)
        self.learning_rate = 1.0 if learning_rate is None else learning_rate
        self.weight_decay = 1.0 if weight_decay is None else weight_decay
        # in a plain dict, as the weights are: the network saves them
        self._state = dict(net.named_parameters()) | dict(net.named_buffers())
        self._beginning = nn.Module()
        for name, value in self._state.items():
            self._beginning.register_buffer(buffer_name(name), value.detach().clone())
        self.register_buffer("made", torch.zeros((), dtype=torch.long))

    def check(self, epochs: int, optimizer: torch.optim.Optimizer) -> None:
        """Refuse rounds that would have no epoch."""
        if epochs < len(self.task.ratios):
            raise UserError(
                f"pruner.rounds={len(self.task.ratios)} share search.epochs={epochs}, which is "
                f"less than one for each: give search.epochs={len(self.task.ratios)} or more"
            )

    def groups(self, net: nn.Module) -> list[Group]:
        """Train all of the network, at the rate and the decay of the rounds."""
        return [
            replace(group, learning_rate=self.learning_rate, weight_decay=self.weight_decay)
            for group in super().groups(net)
        ]

    def beginning(self, name: str) -> Tensor:
        """Return a parameter or buffer of the network as it was at the start."""
        return self._beginning.get_buffer(buffer_name(name))

    def schedule_step(self, now: Moment) -> int:
        """Let each round go through the whole schedule."""
        rounds = len(self.task.ratios)
        number = round_of(now.epoch, now.epochs, rounds)
        first, following = (-(-n * now.epochs // rounds) for n in (number, number + 1))
        return now.stretched(first, following - first)

    def after_step(self, now: Moment, optimizer: torch.optim.Optimizer) -> None:
        """End a round after its last step; the optimizer begins the next one as if new."""
        rounds, steps = len(self.task.ratios), now.steps // max(now.epochs, 1)
        ends = (now.step + 1) % max(steps, 1) == 0
        following = round_of(now.epoch + 1, now.epochs, rounds)
        if ends and following > int(self.made):
            self._end_round()
            for state in optimizer.state.values():
                for value in state.values():
                    if isinstance(value, Tensor):
                        value.zero_()

    def finish(self, net: nn.Module) -> None:
        """End the last round: the network that recovers is the first one, masked."""
        self._end_round()

    def result(self) -> dict[str, Any]:
        """Return the ratio after each round."""
        return {"rounds": list(self.task.ratios)}

    def _end_round(self) -> None:
        ratio = self.task.ratios[int(self.made)]
        self.set_masks(self.task.spend(self.magnitudes(), ratio, within=self.masks()))
        for name, value in self._state.items():
            value.copy_(self.beginning(name))
        self.start_factors()
        self.zero_dead()
        self.made += 1
