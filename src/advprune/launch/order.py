"""Choose which job of a grid starts next: what others wait for first, and nothing that must wait.

Each job knows the stages that it has to make (``Job.work``), as they were missing when the grid
began. A job that is running is taken to make all of its own; the store says which are done by now.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from advprune.launch.jobs import Job
from advprune.store.store import is_complete


class Queue:
    """Hold the jobs that wait, and say which may start.

    Args:
        jobs: in the order of the grid.

    Attributes:
        waiting: jobs that have not started.
        running: jobs that have started and not ended.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.waiting: list[Job] = list(jobs)
        self.running: list[Job] = []
        self._made = set[Path]()

    def take(self) -> Job | None:
        """Move a job from the waiting to the running ones, and return it; None if all must wait.

        A job may start if there is a stage that it can make now, and that no running job makes.
        Those go first that need not wait later either; among them those that make what most
        others wait for; then the grid's order counts.
        """
        under_way = self._under_way()
        waited_for = Counter(stage.folder for job in self.waiting for stage in job.work.missing)
        ranked = [
            (rank, -place, job)
            for place, job in enumerate(self.waiting)
            if (rank := self._rank(job, under_way, waited_for)) is not None
        ]
        if not ranked:
            return None
        job = max(ranked, key=lambda each: each[:2])[2]
        self.waiting.remove(job)
        self.running.append(job)
        return job

    def put_back(self, job: Job) -> None:
        """Move a job that was taken, and could not start, back to the front."""
        self.running.remove(job)
        self.waiting.insert(0, job)

    def ended(self, job: Job) -> None:
        """Forget a job that has ended; what it has not made, others will make."""
        self.running.remove(job)

    def _under_way(self) -> set[Path]:
        """Return the folders of the stages that running jobs have yet to finish."""
        theirs = {stage.folder for job in self.running for stage in job.work.missing} - self._made
        self._made |= {folder for folder in theirs if is_complete(folder)}
        return theirs - self._made

    def _rank(
        self, job: Job, under_way: set[Path], waited_for: Counter[Path]
    ) -> tuple[bool, int] | None:
        """Return whether the job never waits, and how many wait for it; None if it waits now."""
        left = [stage for stage in job.work.missing if stage.folder not in self._made]
        own = [stage for stage in left if stage.folder not in under_way]
        blocked = [stage for stage in own if stage.needs & under_way]
        if left and len(own) == len(blocked):
            return None
        return not blocked, sum(waited_for[stage.folder] - 1 for stage in own)


def parents_first(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs in the order in which they start if none of them ever ends.

    Those that need not wait for another job come first.
    """
    queue, ordered = Queue(jobs), list[Job]()
    while (job := queue.take()) is not None:
        ordered.append(job)
    return [*ordered, *queue.waiting]
