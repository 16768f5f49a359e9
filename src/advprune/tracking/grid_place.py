"""Read how far a grid is from the records of its jobs, which all launchers leave in its folder."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from advprune.runtime.safe_files import read_json
from advprune.tracking.progress import duration
from advprune.tracking.stage_times import StageTimes

#: What a job writes into its folder: that it has begun, and later its row or its failure.
RECORD = "job.json"
#: In a grid's folder: the words of each of its jobs, in the order of its table.
JOBS = "jobs.json"
#: There, too: what a launcher writes before the jobs run, a record of each.
LAUNCHED = "launched.json"
#: What a record has of a job that has ended.
ENDED = frozenset({"row", "failed", "given_up"})
#: Seconds for which what was read of a grid is not read again.
FRESH = 5.0


def shared_words(jobs: Sequence[Sequence[str]]) -> set[str]:
    """Return the words that all jobs of a grid have; none of a lone job.

    Args:
        jobs: the words of each job of the grid.
    """
    return set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()


def grid_words(folder: Path) -> tuple[int, set[str]]:
    """Return how many jobs the grid in a folder has, and the words that all of them share."""
    path = folder / JOBS
    return _words_in(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)  # a thousand finished jobs of a grid are looked at by one process
def _words_in(path: Path, version: int) -> tuple[int, set[str]]:
    jobs = read_json(path)
    return len(jobs), shared_words(jobs)


def differing(words: Sequence[str], shared: Collection[str]) -> str:
    """Return the words of a job without those that its whole grid shares."""
    return " ".join(word for word in words if word not in shared)


@dataclass
class GridPlace:
    """Know a grid's folder, how many jobs it has, and which of them this one is.

    Attributes:
        folder: of the grid.
        total: how many jobs it has.
        number: of this job, from 0.
        clock: seconds since the epoch.
    """

    folder: Path
    total: int
    number: int = 0
    clock: Callable[[], float] = time.time
    _ended: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)
    _left: tuple[float, float | None] = (-FRESH, None)
    _times: StageTimes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Know where the grid says which stages it makes."""
        self._times = StageTimes(self.folder)

    def __str__(self) -> str:
        """Return ``job 3 of 12``."""
        return f"job {self.number + 1} of {self.total}"

    def seconds_left(self) -> float | None:
        """Return how long the jobs that have not ended may take; None where nothing tells.

        It is what their stages take, by as many jobs as run at the same time. So nothing tells
        before one stage of each kind was made, nor once those under way have all taken longer.
        """
        now = self.clock()
        if now - self._left[0] >= FRESH:
            self._left = (now, self._estimate(now))
        return self._left[1]

    def summary(self) -> str:
        """Return how many jobs are done, and the time that is left: a line of the whole grid."""
        under_way = len(self._read())
        failed = sum("failed" in record for record in self._ended.values())
        parts = [f"{len(self._ended)} of {self.total} jobs done"]
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{under_way} under way"] if under_way else []
        seconds = self.seconds_left() if len(self._ended) < self.total else None
        parts += [] if seconds is None else [f"grid {duration(seconds)} left"]
        return " · ".join(parts)

    def _read(self) -> list[Path]:
        """Read the records that are new; return those of jobs under way."""
        under_way = []
        for path in self.folder.rglob(RECORD):
            if path in self._ended:
                continue
            try:
                record = read_json(path)
            except (OSError, ValueError):  # just being replaced
                continue
            if record.keys() & ENDED:
                self._ended[path] = record
            else:
                under_way.append(path)
        return under_way

    def _estimate(self, now: float) -> float | None:
        under_way = self._read()
        ended = {tuple(record.get("overrides", ())) for record in self._ended.values()}
        work = self._times.work(ended, now)
        return work / max(len(under_way), 1) if work else None
