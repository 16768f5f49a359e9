"""Many searches in one batch: finished rows leave, waiting tasks take their place.

A task is one image with one turn: a target, or a restart. When an image is fooled, its other tasks
are dropped.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from advprune.attacks.fast.results import BatchResults

#: Tensors whose first dimension is the active rows. ``image`` and ``turn``, int64, name the task.
State = dict[str, Tensor]


class Search(Protocol):
    """One of AutoAttack's parts; ``turns`` is the number of targets or restarts per image."""

    turns: int

    def begin(self, image: Tensor, turn: Tensor) -> State:
        """Return the rows of new tasks, before their first step."""

    def step(self, state: State) -> Tensor:
        """Take one step of every row, and offer points that may fool to ``results``.

        Returns:
            bool (R,): which rows have taken their last step.
        """


class Pool:
    """The active rows of one part, and the tasks that wait: all images' first turns, then second.

    Args:
        search: the part.
        results: the images. There are never more rows than images, which bounds the memory.
        rows: how many rows there may be all the same, for a network that needs little.
    """

    def __init__(self, search: Search, results: BatchResults, *, rows: int = 0) -> None:
        self.search, self.results, self.ahead = search, results, 0
        self.rows = max(rows, len(results.x))
        self.state: State = {}

    @property
    def share(self) -> float:
        """Return the share of tasks that are finished or dropped, in [0, 1]."""
        under_way = len(self.state["image"]) if self.state else 0
        return (self.ahead - under_way) / max(len(self.results.x) * self.search.turns, 1)

    def run(self, tick: Callable[[], None]) -> None:
        """Run until no task is left; ``tick`` is called after each step."""
        self._refill()
        while self.state:
            done = self.search.step(self.state)
            self._keep(self.results.still_right[self.state["image"]] & ~done)
            self._refill()
            tick()

    def _keep(self, stays: Tensor) -> None:
        if bool(stays.all()):
            return
        rows = stays.nonzero().squeeze(1)
        self.state = (
            {name: tensor[rows] for name, tensor in self.state.items()} if len(rows) else {}
        )

    def _refill(self) -> None:
        images = len(self.results.x)
        room = self.rows - (len(self.state["image"]) if self.state else 0)
        last = images * self.search.turns
        if room == 0 or self.ahead == last:
            return
        still_right: list[bool] = self.results.still_right.tolist()
        coming: list[int] = []
        while len(coming) < room and self.ahead < last:
            if still_right[self.ahead % images]:
                coming.append(self.ahead)
            self.ahead += 1
        if not coming:
            return
        task = torch.tensor(coming, device=self.results.x.device)
        fresh = self.search.begin(task % images, task // images)
        self.state = (
            {k: torch.cat([self.state[k], v]) for k, v in fresh.items()} if self.state else fresh
        )
