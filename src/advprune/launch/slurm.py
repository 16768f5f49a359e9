"""Run a grid on a SLURM cluster: one array of jobs, each of which requeues itself if stopped.

submitit submits it. Of hydra-submitit-launcher nothing is used: it ends at the first job that dies,
gives no container, and never leaves.
"""

import subprocess
import time
from pathlib import Path
from signal import Signals
from typing import Any

from advprune.errors import UserError
from advprune.launch.attempt import Attempt
from advprune.launch.jobs import Job
from advprune.launch.local import brief, say

#: Options of ``conf/hydra/launcher/slurm.yaml`` that are not of a job, but of its submission.
OURS = ("python", "max_num_timeout", "wait", "poll_s")
#: Seconds without an answer of squeue until it is not asked any more.
SILENCE = 6 * 3600.0
#: Why jobs wait when all is well: for others, or for the time after a requeue.
USUAL = {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"}
#: What sbatch calls the others, where it is not the same.
SBATCH = {"timeout_min": "time", "tasks_per_node": "ntasks_per_node", "mem_gb": "mem"}


def run(jobs: list[Job], folder: Path, options: dict[str, Any]) -> None:
    """Submit the jobs; if asked to, wait until all have ended.

    Raises:
        UserError: with SLURM's own words, if it refuses them; if there is no SLURM, or an option is
            out of range.
    """
    check(options)
    submitted = submit(jobs, folder / "slurm", options)
    array = next(iter(submitted)).partition("_")[0]
    say(
        f"submitted {len(jobs)} jobs to SLURM as {array}; what each prints is under "
        f"{folder / 'slurm'}"
    )
    later = (
        f"squeue --me shows the jobs, scancel {array} ends them, and their table so far is printed "
        f"by\n  python -m advprune.launch.grid {folder}"
    )
    if not options["wait"]:
        say(later)
        return
    try:
        watch(submitted, folder / "slurm", float(options["poll_s"]))
    except BaseException:
        say(f"the jobs go on without this command: {later}")
        raise


def check(options: dict[str, Any]) -> None:
    """Refuse options that SLURM would take and then end each job at once.

    Raises:
        UserError: naming the option and the cure.
    """
    if options["timeout_min"] * 60 <= options["signal_delay_s"]:
        raise UserError(
            f"hydra.launcher.timeout_min={options['timeout_min']} is not longer than "
            f"signal_delay_s={options['signal_delay_s']}: each job would be told to stop as it "
            "starts; give it more time"
        )
    for name in ("nodes", "tasks_per_node", "array_parallelism"):
        if options[name] < 1:
            raise UserError(
                f"hydra.launcher.{name}={options[name]} is not possible: give a number from 1 up"
            )


def submit(jobs: list[Job], logs: Path, options: dict[str, Any]) -> dict[str, Job]:
    """Submit the jobs as one array, and return them by SLURM's name of each.

    Args:
        jobs: of the grid.
        logs: folder for what they print.
        options: of the launcher.

    Raises:
        UserError: if SLURM or submitit is missing, or the jobs are refused.
    """
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError(
            "hydra/launcher=slurm needs a package that is not installed: "
            'pip install "advprune[slurm]"'
        ) from None
    try:
        executor = submitit.SlurmExecutor(
            logs, max_num_timeout=options["max_num_timeout"], python=options["python"]
        )
    except RuntimeError:
        raise UserError(
            "hydra/launcher=slurm needs SLURM's commands, and srun is not here: run it on a "
            "machine of the cluster, or use hydra/launcher=local"
        ) from None
    parameters = {
        SBATCH.get(name, name): value
        for name, value in options.items()
        if name not in OURS and value is not None
    }
    if "mem" in parameters:
        parameters["mem"] = f"{parameters['mem']}GB"
    executor.update_parameters(job_name=Path(jobs[0].command[0]).stem, **parameters)
    try:
        with executor.batch():
            submitted = [executor.submit(Attempt(job.command)) for job in jobs]
    except submitit.core.utils.FailedJobError as refused:
        refusals = [line for line in str(refused).splitlines() if line.startswith("sbatch:")]
        raise UserError(f"SLURM refused the jobs: {' '.join(refusals) or refused}") from None
    return {slurm_job.job_id: job for slurm_job, job in zip(submitted, jobs, strict=True)}


def watch(submitted: dict[str, Job], logs: Path, every: float) -> None:
    """Wait until SLURM has none of the jobs any more; record those that ended without a record.

    Args:
        submitted: jobs by SLURM's names.
        logs: folder of what they print.
        every: seconds between two looks.

    Raises:
        UserError: if squeue has not answered for ``SILENCE`` seconds.
    """
    waiting, missed, reported = dict(submitted), set[str](), set[str]()
    heard = time.monotonic()
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
            say(f"{job.title}; {how}")
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
