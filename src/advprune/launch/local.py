"""Run jobs as processes of this machine, some at a time, each with its share of cores and GPUs."""

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGUSR1, SIGUSR2, Signals
from typing import Any

from advprune.errors import UserError
from advprune.launch import processes
from advprune.launch.grid_display import GridDisplay, say
from advprune.launch.jobs import Job
from advprune.launch.memory import Room
from advprune.launch.order import Queue
from advprune.launch.processes import Share
from advprune.runtime.provenance import affinity, usable_processors
from advprune.tracking.grid_place import GridPlace

#: What a job ends with when it was asked to make room, and is to go on later.
GOES_ON = {128 + SIGUSR1, 128 + SIGUSR2}
#: Seconds between two looks at the store and the memory.
LOOK = 0.5
#: Seconds that the first job with images larger than the default's runs alone, to show what memory
#: it takes.
ALONE = 60.0


def at_once(options: dict[str, Any], gpus: Sequence[str], processors: int) -> int:
    """Return how many jobs the machine runs at the same time, as far as memory reaches.

    It is one a GPU, or one a processor where there is none; fewer if a job is spread over several.

    Args:
        options: of the launcher.
        gpus: that may be used.
        processors: that may be kept busy.

    Raises:
        UserError: if there are not enough GPUs.
    """
    jobs, each = options["jobs"], options["gpus_per_job"]
    most = carried(options, gpus, processors)
    if gpus and each != 0 and (most < 1 or (jobs or 0) > most):
        raise UserError(
            f"hydra.launcher.jobs={jobs or 1} with {each or len(gpus)} GPUs each is not possible, "
            f"with {len(gpus)} here: give hydra.launcher.jobs={max(most, 1)}, or "
            "hydra.launcher.gpus_per_job=0 for jobs that need none"
        )
    return jobs or max(most, 1)


def carried(options: dict[str, Any], gpus: Sequence[str], processors: int) -> int:
    """Return for how many jobs there are GPUs or, where there is none to use, processors."""
    each = options["gpus_per_job"]
    if not gpus or each == 0:
        return processors // (each or 1)
    return len(gpus) // (each or len(gpus))


def shares(
    count: int, gpus: Sequence[str], gpus_per_job: int | None, cores: Sequence[int], processors: int
) -> list[Share]:
    """Divide the machine: return the share of each job that runs at the same time.

    Args:
        count: how many.
        gpus: that may be used.
        gpus_per_job: how many each job gets; None: all.
        cores: that may be used.
        processors: how many of them may be kept busy at once, if fewer.
    """
    each, threads = max(len(cores) // count, 1), max(processors // count, 1)
    own = len(gpus) if gpus_per_job is None else gpus_per_job
    return [
        Share(
            tuple(cores[(place * each + step) % len(cores)] for step in range(each)),
            threads,
            tuple(gpus[place * own : (place + 1) * own]),
        )
        for place in range(count)
    ]


def visible_gpus(names: list[Any] | None) -> list[str]:
    """Return the GPUs this process may use, by ``CUDA_VISIBLE_DEVICES`` or NVIDIA's own tool."""
    if names is not None:
        return [str(gpu) for gpu in names]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip()]
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(place) for place in range(len(answer.stdout.splitlines()))]


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
                self._look(queue)
        finally:
            self._stop()

    def _fill(self, queue: Queue) -> None:
        """Start as many jobs as there are free shares, memory, and jobs that need not wait."""
        while self.free and (job := queue.take()) is not None:
            if not self._fits():
                queue.put_back(job)
                return
            self._start(job, self.free.pop(0), time.monotonic())
        self.display.hold(len(queue.waiting) if self.free else 0)

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

    def _look(self, queue: Queue) -> None:
        """Wait until a process ends, or for a moment, and see to those that have ended."""
        wait([each.process.sentinel for each in self.running], LOOK)
        for each in [each for each in self.running if each.process.exitcode is not None]:
            self.running.remove(each)
            if each.process.exitcode in GOES_ON:
                say(f"{each.job.title}; asked to make room, and goes on")
                self._start(each.job, each.share, each.begun)
                continue
            self.free.insert(0, each.share)
            queue.ended(each.job)
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
        jobs = "1 job" if len(self.running) == 1 else f"{len(self.running)} jobs"
        say(f"stopping {jobs}, which save what they have; Ctrl-C again ends them at once")
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


def usable_gpus(options: dict[str, Any]) -> list[str]:
    """Return the GPUs that the launcher's options let jobs use."""
    return [] if options["accelerator"] == "cpu" else visible_gpus(options["gpus"])


def run(jobs: list[Job], grid: GridPlace, options: dict[str, Any]) -> None:
    """Run the jobs of a grid as ``conf/hydra/launcher/local.yaml`` says."""
    gpus, processors = usable_gpus(options), usable_processors()
    count = min(at_once(options, gpus, processors), len(jobs))
    room = Room() if options["jobs"] is None else None
    if room is not None and (fitting := max(room.for_more([]), 1)) < count:
        say(room.sentence(int(fitting), count))
        count = int(fitting)
    each = shares(count, gpus, options["gpus_per_job"], affinity(), processors)
    say(f"{len(jobs)} jobs, {count} at a time; what each prints is in its folder, output.log")
    with GridDisplay.here(grid) as display:
        Runner(each, display, room).run(jobs)
