"""Decide whether a grid's jobs run one after the other in this process, as Hydra's own do."""

import sys
from typing import Any

from advprune.distributed import environment
from advprune.launch import shares
from advprune.launch.grid_display import say
from advprune.runtime.provenance import usable_processors


def debugging() -> bool:
    """Return whether a debugger, or whatever else traces each line, is attached."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return (
        sys.gettrace() is not None
        or bool({"debugpy", "pydevd"} & sys.modules.keys())
        or (monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID) is not None)
    )


def stays_here(jobs: int, options: dict[str, Any]) -> bool:
    """Return whether jobs are better run in this process.

    It is so where not even two would run at the same time, under a debugger, and in each of several
    ranks that something else has started; never if ``hydra.launcher.jobs`` says how many.

    Args:
        jobs: how many there are to run.
        options: of the launcher.
    """
    if options["jobs"] is not None:
        return False
    if jobs < 2 or environment.launched_world()[1] > 1:
        return True
    if debugging():
        say("a debugger is attached: the jobs run in this process, one after the other")
        return True
    return shares.carried(options, shares.usable_gpus(options), usable_processors()) == 1
