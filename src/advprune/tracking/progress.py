"""Say how far a job is: its words, its phase, its place in a grid, and the time that is left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

#: What each stage does, by the name that loggers have for it.
PHASES = {
    "dense": "dense training",
    "scores": "scoring",
    "pruned": "pruning",
    "finetuned": "fine-tuning",
    "quantized": "quantizing",
    "evaluated": "evaluating",
    "examples": "making examples",
    "evaluated_dense": "evaluating the dense network",
}


def phase_of(stage: str) -> str:
    """Return what a stage does, by its name; ``source_`` is before a transfer attack's source."""
    kind = stage.removeprefix("source_")
    return PHASES[kind] if kind == stage else f"{PHASES[kind]} of the source"


def duration(seconds: float) -> str:
    """Return a time as a person would say it: ``46 s``, ``6 min``, ``2 h 10 min``, ``3 days``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(hours / 24)} days"


class Grid(Protocol):
    """Say where in a grid a job is, in words, and how long the grid may take."""

    def __str__(self) -> str:
        """Return ``job 3 of 12``."""

    def seconds_left(self) -> float | None:
        """Return how long the jobs that have not ended may take; None where nothing tells."""


@dataclass(frozen=True)
class JobTitle:
    """Name a job in its progress: ``job 3 of 12: hydra 0.9, seed 1``.

    Attributes:
        words: what the job is of.
        grid: its place in a grid; None of a lone job.
    """

    words: str = "job"
    grid: Grid | None = None

    def __str__(self) -> str:
        """Return the title."""
        return self.words if self.grid is None else f"{self.grid}: {self.words}"

    def line(self, *parts: str) -> str:
        """Return a line about the job, with the time that its grid may still take."""
        seconds = None if self.grid is None else self.grid.seconds_left()
        left = [] if seconds is None else [f"grid {duration(seconds)} left"]
        return " · ".join([str(self), *parts, *left])


class PhaseProgress:
    """Know how far a phase is, and how long the rest of it may take.

    Args:
        title: of the job.
        name: of the phase, such as ``fine-tuning``.
        clock: seconds.

    Attributes:
        total: epochs, or batches of an evaluation.
        done: of them, with the share of the one under way.
        facts: what was measured last, in words.
    """

    def __init__(
        self, title: JobTitle, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title, self.name, self.clock = title, name, clock
        self.total, self.done = 1, 0.0
        self.facts: list[str] = []
        self._begun: tuple[float, float] | None = None

    def begin(self, done: float) -> None:
        """Start the clock where the phase goes on: what an earlier attempt did took no time now."""
        self.done, self._begun = done, (self.clock(), done)

    def seconds_left(self) -> float | None:
        """Return how long the rest may take, by the pace so far; None before there is one."""
        if self._begun is None or self.done <= self._begun[1]:
            return None
        at, first = self._begun
        return (self.clock() - at) / (self.done - first) * max(self.total - self.done, 0.0)

    def line(self, *, facts: bool = True) -> str:
        """Return the line; the unit under way, or just finished, counts from 1."""
        unit, left = max(math.ceil(self.done), 1), self.seconds_left()
        parts = [f"{self.name} {unit}/{self.total}", *(self.facts if facts else [])]
        if left is not None and self.done < self.total:
            parts.append(f"{duration(left)} left")
        return self.title.line(*parts)
