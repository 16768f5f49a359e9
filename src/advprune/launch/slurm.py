"""Run a grid on a SLURM cluster: one array of jobs, each of which requeues itself if stopped.

submitit submits it. Of hydra-submitit-launcher nothing is used: it ends at the first job that dies,
gives no container, and never leaves.
"""

from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.launch.attempt import Attempt
from advprune.launch.grid_display import GridDisplay, say
from advprune.launch.jobs import Job
from advprune.launch.slurm_queue import watch
from advprune.tracking.grid_place import GridPlace

#: Options of ``conf/hydra/launcher/slurm.yaml`` that are not of a job, but of its submission.
OURS = ("python", "max_num_timeout", "wait", "poll_s")
#: What sbatch calls the others, where it is not the same.
SBATCH = {"timeout_min": "time", "tasks_per_node": "ntasks_per_node", "mem_gb": "mem"}


def run(jobs: list[Job], grid: GridPlace, options: dict[str, Any]) -> None:
    """Submit the jobs; if asked to, wait until all have ended.

    Raises:
        UserError: with SLURM's own words, if it refuses them; if there is no SLURM, or an option is
            out of range.
    """
    check(options)
    folder = grid.folder
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
        with GridDisplay.here(grid) as display:
            watch(submitted, folder / "slurm", float(options["poll_s"]), display)
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
