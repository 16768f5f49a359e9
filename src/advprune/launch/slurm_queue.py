"""Watch jobs in the queue of SLURM, and say why one ended."""

import subprocess
import time
from pathlib import Path
from signal import Signals

from advprune.errors import UserError
from advprune.launch.grid_display import GridDisplay, say
from advprune.launch.jobs import Job
from advprune.launch.local import brief

#: Seconds without an answer of squeue until it is not asked any more.
SILENCE = 6 * 3600.0
#: Why jobs wait when all is well: for others, or for the time after a requeue.
USUAL = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"}


def watch(submitted: dict[str, Job], logs: Path, every: float, display: GridDisplay) -> None:
    """Wait until SLURM has none of the jobs any more; record those that ended without a record.

    Args:
        submitted: jobs by SLURM's names.
        logs: folder of what they print.
        every: seconds between two looks.
        display: that hears of jobs.

    Raises:
        UserError: if squeue has not answered for ``SILENCE`` seconds.
    """
    waiting, missed, reported = dict(submitted), set[str](), set[str]()
    heard = time.monotonic()
    for name, job in submitted.items():
        display.begun(job.title, logs / f"{name}_0_log.out")
    while waiting:
        time.sleep(every)
        queued = in_queue()
        if queued is None:
            if time.monotonic() - heard > SILENCE:
                raise UserError(
                    f"squeue has not answered for {SILENCE / 3600:g} hours: SLURM may be down"
                )
            continue
        heard = time.monotonic()
        for why in sorted({queued[name] for name in waiting if name in queued} - USUAL - reported):
            say(f"SLURM holds jobs back: {why}")
            reported.add(why)
        absent = {name for name in waiting if name not in queued}
        # twice: a job that is requeued may be in no state for an instant
        for name in sorted(absent & missed):
            job = waiting.pop(name)
            if not job.ended:
                job.died(f"{reason(name)}; {logs}/{name}_0_log.err has its last words")
            record = job.record()
            how = f"failed, {brief(record['failed'])}" if "failed" in record else "done"
            display.ended(job.title, how)
        missed = absent


def in_queue() -> dict[str, str] | None:
    """Return why each of this user's jobs waits, by SLURM's name; None if squeue fails."""
    try:
        answer = subprocess.run(
            ["squeue", "--me", "--array", "--noheader", "--format=%i %r"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())


def reason(name: str) -> str:
    """Return how SLURM says that a job ended, by its accounting or by what it remembers."""
    commands = (
        [
            "sacct",
            "--allocations",
            "--noheader",
            "--parsable2",
            "--format=State,ExitCode",
            f"--jobs={name}",
        ],
        ["scontrol", "show", "job", "--oneliner", name],
    )
    for command in commands:
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=120, check=True
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            continue
        if not answer:
            continue
        words = dict(word.split("=", 1) for word in answer.split() if "=" in word)
        state, _, code = answer.splitlines()[-1].partition("|")
        return _sentence(words.get("JobState", state), words.get("ExitCode", code))
    return "SLURM has no job of this name any more, and it left no result"


def _sentence(state: str, code: str) -> str:
    status, _, signum = code.partition(":")
    # srun ends with 128 + signal where the signal came to its task
    number = int(signum or 0) or (int(status or 0) - 128 if int(status or 0) > 128 else 0)
    by = (
        f", killed by signal {number} ({Signals(number).name})"
        if number in set(Signals)
        else f", code {code}"
    )
    return f"SLURM says {state}{by}"
