"""Run jobs as processes of this machine, some at a time, each with its share of cores and GPUs.

The standard library's thread pool hands the jobs out, one thread waiting for each process. A
process that dies takes nobody with it: joblib's and ``concurrent.futures``'s pools of processes end
all jobs when one is killed.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from signal import SIGUSR1, SIGUSR2, Signals
from typing import Any

from advprune.errors import UserError
from advprune.launch.grid_display import GridDisplay, say
from advprune.launch.jobs import Job
from advprune.launch.memory import fitting, free_memory
from advprune.runtime.provenance import affinity, usable_processors
from advprune.tracking.grid_place import GridPlace

#: What a job ends with when it was asked to make room, and is to go on later.
GOES_ON = {128 + SIGUSR1, 128 + SIGUSR2}
Share = tuple[list[int], list[str]]


def shares(
    at_once: int | None,
    gpus: list[str],
    gpus_per_job: int,
    cores: list[int],
    processors: int | None = None,
) -> list[Share]:
    """Divide the machine: return the cores and GPUs of each job that runs at the same time.

    Args:
        at_once: how many; None: one a GPU (or ``gpus_per_job`` GPUs), or one a core where there is
            no GPU.
        gpus: that may be used, as ``CUDA_VISIBLE_DEVICES`` names them.
        gpus_per_job: how many each job gets.
        cores: that may be used.
        processors: how many of them this process may keep busy at once, if fewer.

    Raises:
        UserError: if there are not enough GPUs.
    """
    most = len(gpus) // gpus_per_job if gpus and gpus_per_job else processors or len(cores)
    if gpus and gpus_per_job and (most < 1 or (at_once or 0) > most):
        raise UserError(
            f"hydra.launcher.jobs={at_once or 1} with {gpus_per_job} GPUs each is not possible, "
            f"with {len(gpus)} here: give hydra.launcher.jobs={max(most, 1)}, or "
            "hydra.launcher.gpus_per_job=0 for jobs that need none"
        )
    count = at_once or most
    each = max(len(cores) // count, 1)
    core_shares = [
        [cores[(place * each + step) % len(cores)] for step in range(each)]
        for place in range(count)
    ]
    return [
        (core_shares[place], gpus[place * gpus_per_job : (place + 1) * gpus_per_job])
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


class Runner:
    """Run jobs, each in a free share of the machine.

    Args:
        shares: of the machine, one for each job that runs at the same time.
        display: that hears of jobs.
    """

    def __init__(self, shares: list[Share], display: GridDisplay | None = None) -> None:
        self.display = display or GridDisplay()
        self.free: SimpleQueue[Share] = SimpleQueue()
        for share in shares:
            self.free.put(share)
        self.pool = ThreadPoolExecutor(len(shares))
        self.alive: set[subprocess.Popen[bytes]] = set()
        self.stopping = False

    def run(self, jobs: list[Job]) -> None:
        """Run all jobs; when asked to stop, let those under way save what they have."""
        try:
            under_way: set[Future[Any]] = {self.pool.submit(self._run_job, job) for job in jobs}
            done, _ = wait(under_way)
            for future in done:
                future.result()  # a defect of ours is not to be silent
        finally:
            self.stopping = True
            for process in list(self.alive):
                process.terminate()
            self.pool.shutdown(cancel_futures=True)

    def _run_job(self, job: Job) -> None:
        share = self.free.get()
        try:
            begun = time.monotonic()
            self.display.begun(job.title, log_of(job))
            code = self._run_process(job, *share)
            while code in GOES_ON and not self.stopping:
                say(f"{job.title}; asked to make room, and goes on")
                code = self._run_process(job, *share)
        finally:
            self.free.put(share)
        if self.stopping:
            return
        if not job.ended:
            job.died(f"{ending(code)}; {log_of(job)} has its last words")
        record = job.record()
        how = f"failed, {brief(record['failed'])}" if "failed" in record else "done"
        self.display.ended(job.title, f"{how} ({time.monotonic() - begun:.0f} s)")

    def _run_process(self, job: Job, cores: list[int], gpus: list[str]) -> int:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(min(len(cores), usable_processors())),
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        }
        job.folder.mkdir(parents=True, exist_ok=True)
        with log_of(job).open("ab") as log:
            # a session of its own: Ctrl-C reaches this process only, which asks the job to save
            # before it ends
            process = subprocess.Popen(
                [sys.executable, *job.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cores)
        self.alive.add(process)
        if self.stopping:  # since the pool handed this job out
            process.terminate()
        try:
            return process.wait()
        finally:
            self.alive.discard(process)


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


def _as_many_as_fit(each: list[Share], free: int | None) -> list[Share]:
    """Return the shares of as many jobs as memory holds, and say if they are fewer."""
    count = fitting(len(each), free)
    if free is not None and count < len(each):
        say(
            f"{free / 2**30:.1f} GiB of memory are free, enough for {count} at a time and not for "
            f"{len(each)}; hydra.launcher.jobs={len(each)} runs them all the same"
        )
    return each[:count]


def run(jobs: list[Job], grid: GridPlace, options: dict[str, Any]) -> None:
    """Run the jobs of a grid as ``conf/hydra/launcher/local.yaml`` says."""
    gpus = [] if options["accelerator"] == "cpu" else visible_gpus(options["gpus"])
    each = shares(options["jobs"], gpus, options["gpus_per_job"], affinity(), usable_processors())
    each = each[: len(jobs)]
    if options["jobs"] is None:
        each = _as_many_as_fit(each, free_memory())
    say(f"{len(jobs)} jobs, {len(each)} at a time; what each prints is in its folder, output.log")
    with GridDisplay.here(grid) as display:
        Runner(each, display).run(jobs)
