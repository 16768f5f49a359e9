"""Run one job of a grid inside a SLURM job, which queues itself again when it is asked to stop.

submitit pickles an ``Attempt``, calls it, and knows how to requeue; the command itself knows when
it can stop.
"""

import os
import runpy
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from advprune.runtime.preemption import SIGNALS


@dataclass(frozen=True)
class Attempt:
    """Attempt one job; SLURM calls it again after each requeue.

    Args:
        command: the script and its words.
    """

    command: list[str]

    def __call__(self) -> int:
        """Run the command as ``python`` would, and return its exit code.

        Whichever signal asks it to stop, it saves before it ends.
        """
        from submitit import JobEnvironment

        number = JobEnvironment._usr_sig()
        requeue: Any = signal.getsignal(number)  # submitit's: counts the goes, and asks SLURM
        code = run_script(self.command)
        signal.signal(number, requeue)
        if code - 128 in SIGNALS and still_running():
            requeue(number, None)
        return code

    def checkpoint(self) -> Any:
        """Return the next attempt, by submitit's protocol: the same one."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_script(command: list[str]) -> int:
    """Run a script in this process as ``__main__``, and return its exit code.

    Args:
        command: the script and its words.
    """
    sys.argv = list(command)
    sys.path.insert(0, os.path.dirname(command[0]))  # noqa: PTH120  sys.path has strings
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def still_running() -> bool:
    """Return whether SLURM still runs this job: a cancelled one must not queue itself again."""
    answer = subprocess.run(
        ["scontrol", "show", "job", "--oneliner", os.environ["SLURM_JOB_ID"]],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return "JobState=RUNNING" in answer.stdout
