"""Run jobs as processes of this machine, some at a time, each with its share of cores and GPUs."""

import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGUSR1, SIGUSR2, Signals
from typing import Any

from advprune.launch import processes
from advprune.launch.grid_display import GridDisplay, say
from advprune.launch.jobs import Job
from advprune.launch.memory import Room
from advprune.launch.order import Queue
from advprune.launch.shares import Share, at_once, neighbours, shares, usable_gpus
from advprune.runtime.provenance import usable_processors
from advprune.tracking.grid_place import GridPlace

#: What a job ends with when it was asked to make room, and is to go on later.
GOES_ON = {128 + SIGUSR1, 128 + SIGUSR2}
#: Seconds between two looks at the store and the memory.
LOOK = 0.5
#: Seconds that the first job with images larger than the default's runs alone, to show what memory
#: it takes.
ALONE = 60.0


@dataclass
class Running:
    """Hold a job that runs: its process, its share, and when it began, by the monotonic clock."""

    job: Job
    process: BaseProcess
    share: Share
    begun: float


class Runner:
    """Run jobs, each in a free share of the machine.

    Args:
        shares: of the machine, one for each job that runs at the same time.
        display: that hears of jobs.
        room: memory that is looked at before a job starts; None: as many run as there are shares.
    """

    def __init__(
        self, shares: list[Share], display: GridDisplay | None = None, room: Room | None = None
    ) -> None:
        self.free, self.display, self.room = list(shares), display or GridDisplay(), room
        self.running: list[Running] = []
        self.told, self.begun = False, 0.0

    def run(self, jobs: list[Job]) -> None:
        """Run all jobs; when asked to stop, let those under way save what they have."""
        queue, self.begun = Queue(jobs), time.monotonic()
        try:
            while queue.waiting or self.running:
                self._fill(queue)
                self._look()
        finally:
            self._stop()

    def _fill(self, queue: Queue) -> None:
        """Start as many jobs as there are free shares, memory, and jobs that need not wait."""
        job = None
        while self.free and (job := queue.next([each.job for each in self.running])) is not None:
            if not self._fits():
                break
            queue.waiting.remove(job)
            self._start(job, self.free.pop(0), time.monotonic())
        self.display.hold(len(queue.waiting) if self.free and job is None else 0)

    def _fits(self) -> bool:
        """Return whether memory holds one more job, and say it once if not."""
        if self.room is None or not self.running:
            return True
        small = all(each.job.work.small for each in self.running)
        if not small and time.monotonic() - self.begun < ALONE:
            return False
        fits = self.room.for_more([each.process.pid or 0 for each in self.running]) >= 1
        if not fits and not self.told:
            self.told = True
            count = len(self.running)
            say(self.room.sentence(count, count + len(self.free)))
        return fits

    def _start(self, job: Job, share: Share, begun: float) -> None:
        self.display.begun(job.title, log_of(job))
        process = processes.start(job.command, log_of(job), share)
        self.running.append(Running(job, process, share, begun))

    def _look(self) -> None:
        """Wait until a process ends, or for a moment, and see to those that have ended."""
        wait([each.process.sentinel for each in self.running], LOOK)
        for each in [each for each in self.running if each.process.exitcode is not None]:
            self.running.remove(each)
            if each.process.exitcode in GOES_ON:
                say(f"{each.job.title}; asked to make room, and goes on")
                self._start(each.job, each.share, each.begun)
                continue
            self.free.insert(0, each.share)
            self._ended(each)

    def _ended(self, ended: Running) -> None:
        """Record a death, and say how the job ended."""
        job, code = ended.job, ended.process.exitcode
        if not job.ended:
            job.died(f"{ending(code or 0)}; {log_of(job)} has its last words")
        record = job.record()
        how = f"failed, {brief(record['failed'])}" if "failed" in record else "done"
        self.display.ended(job.title, f"{how} ({time.monotonic() - ended.begun:.0f} s)")

    def _stop(self) -> None:
        """Ask all processes to save and end, and wait for them; asked again, end them."""
        if not self.running:
            return
        if len(self.running) == 1:
            say("stopping 1 job, which saves what it has; Ctrl-C again ends it at once")
        else:
            jobs = f"{len(self.running)} jobs, which save what they have"
            say(f"stopping {jobs}; Ctrl-C again ends them at once")
        for each in self.running:
            each.process.terminate()
        try:
            for each in self.running:
                each.process.join()
        except BaseException:
            for each in self.running:
                each.process.kill()
            raise


def ending(code: int) -> str:
    """Describe how a process ended that wrote no record."""
    if code < 0:
        death = f"killed by signal {-code} ({Signals(-code).name})"
        return f"{death}, as the system does when memory is short" if code == -9 else death
    if code > 128 and code - 128 in set(Signals):
        return f"stopped by signal {code - 128} ({Signals(code - 128).name})"
    return f"ended with code {code} and no result"


def brief(failure: str) -> str:
    """Return the last line of a failure, which says what happened even in a traceback."""
    return failure.strip().splitlines()[-1]


def log_of(job: Job) -> Path:
    """Return the file of all that the job's process printed."""
    return job.folder / "output.log"


def run(jobs: list[Job], grid: GridPlace, options: dict[str, Any]) -> None:
    """Run the jobs of a grid as ``conf/hydra/launcher/local.yaml`` says."""
    gpus, processors = usable_gpus(options), usable_processors()
    count = min(at_once(options, gpus, processors), len(jobs))
    room = Room() if options["jobs"] is None else None
    if room is not None and (fitting := max(room.for_more([]), 1)) < count:
        say(room.sentence(int(fitting), count))
        count = int(fitting)
    each = shares(count, gpus, options["gpus_per_job"], processors)
    say(f"{len(jobs)} jobs, {count} at a time; what each prints is in its folder, output.log")
    if room is not None and (sentence := neighbours(count * each[0].processors)) is not None:
        say(sentence)
    with GridDisplay.here(grid) as display:
        Runner(each, display, room).run(jobs)
