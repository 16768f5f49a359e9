"""Choose which job of a grid starts next: what others wait for first, and nothing that must wait.

Each job knows the stages that it has to make (``Job.work``), as they were missing when the grid
began. A job that is running is taken to make all of its own; the store says which are done by now,
and which another command on the same store is making.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from advprune.launch.jobs import Job
from advprune.launch.work import MissingStage
from advprune.store.lock import is_held
from advprune.store.store import is_complete


class Queue:
    """Hold the jobs that wait, and say which of them starts next.

    Args:
        jobs: in the order of the grid.

    Attributes:
        waiting: jobs that have not started; whoever starts one takes it out.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.waiting: list[Job] = list(jobs)
        self._made = set[Path]()

    def next(self, running: Collection[Job]) -> Job | None:
        """Return the waiting job that starts next; None if all had better wait.

        A job may start if there is a stage that it can make now, and that nobody makes: no running
        job, and no other command on the store. Those go first that need not wait later either;
        among them those that make what most others wait for; then the grid's order counts. If
        others make all that is left, one job starts and waits for them, as it takes over should
        they die.

        Args:
            running: jobs that have started and not ended.
        """
        under_way = self._under_way(running)
        while (job := self._first(under_way)) is not None:
            ready = self._ready(job, under_way)
            made, held = set(filter(is_complete, ready)), set(filter(is_held, ready))
            if not made | held:
                return job
            self._made |= made
            under_way |= held
        return None if running else self._first(set())

    def _under_way(self, running: Collection[Job]) -> set[Path]:
        """Return the folders of the stages that running jobs have yet to finish."""
        theirs = {stage.folder for job in running for stage in job.work.missing} - self._made
        self._made |= {folder for folder in theirs if is_complete(folder)}
        return theirs - self._made

    def _first(self, under_way: set[Path]) -> Job | None:
        """Return the job that starts next if others make the stages in these folders."""
        waited_for = Counter(stage.folder for job in self.waiting for stage in job.work.missing)
        ranked = [
            (rank, -place, job)
            for place, job in enumerate(self.waiting)
            if (rank := self._rank(job, under_way, waited_for)) is not None
        ]
        return max(ranked, key=lambda each: each[:2])[2] if ranked else None

    def _left(self, job: Job) -> list[MissingStage]:
        return [stage for stage in job.work.missing if stage.folder not in self._made]

    def _ready(self, job: Job, under_way: set[Path]) -> list[Path]:
        """Return the folders of the stages that the job can make now, and nobody makes."""
        return [
            stage.folder
            for stage in self._left(job)
            if stage.folder not in under_way and not stage.needs & under_way
        ]

    def _rank(
        self, job: Job, under_way: set[Path], waited_for: Counter[Path]
    ) -> tuple[bool, int] | None:
        """Return whether the job never waits, and how many wait for it; None if it waits now."""
        own = [stage.folder for stage in self._left(job) if stage.folder not in under_way]
        ready = self._ready(job, under_way)
        if self._left(job) and not ready:
            return None
        return len(ready) == len(own), sum(waited_for[folder] - 1 for folder in own)


def parents_first(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs in the order in which they start if none of them ever ends.

    Those that need not wait for another job come first.
    """
    queue, ordered = Queue(jobs), list[Job]()
    while (job := queue.next(ordered)) is not None:
        queue.waiting.remove(job)
        ordered.append(job)
    return [*ordered, *queue.waiting]
