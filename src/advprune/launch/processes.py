"""Start jobs as processes of this machine.

On Linux they are forked from a server that has imported what every job imports (the standard
library's ``multiprocessing``, method ``forkserver``): a job would spend ten seconds on it. Each job
is a process of its own in every other way, so one that dies takes no other with it.
"""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

from advprune.launch.attempt import run_script
from advprune.launch.shares import Share
from advprune.runtime.provenance import SHARE

#: What most jobs import: commands, stages, and libraries that these load late.
#: One that is not installed is passed over.
PRELOADED = (
    "advprune.launch.processes",
    "advprune.launch.grid",
    "advprune.config.command_line",
    "advprune.pipeline.dry_run",
    "advprune.stages.training_phase",
    "advprune.stages.dense",
    "advprune.stages.pruned",
    "advprune.stages.finetuned",
    "advprune.stages.quantized",
    "advprune.stages.evaluated",
    "advprune.stages.examples",
    "filelock",
    "pandas",
)


def start(command: list[str], log: Path, share: Share) -> BaseProcess:
    """Start a job in a process of its own, which stops when this one dies.

    Args:
        command: the script and its words.
        log: file that all it prints is added to.
        share: of the machine.
    """
    method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(list(PRELOADED))
    log.parent.mkdir(parents=True, exist_ok=True)
    process: BaseProcess = context.Process(target=_run, args=(command, log, share))  # type: ignore[attr-defined]
    process.start()
    return process


def _run(command: list[str], log: Path, share: Share) -> None:
    """Run the command in this new process, and exit as it does."""
    # Ctrl-C reaches the parent only, which asks the job to save before it ends
    os.setsid()
    _print_into(log)
    os.environ |= {
        SHARE: str(share.processors),
        "OMP_NUM_THREADS": str(share.processors),
        "CUDA_VISIBLE_DEVICES": ",".join(share.gpus),
    }
    if "torch" in sys.modules:  # it read the variable when it was imported
        sys.modules["torch"].set_num_threads(share.processors)
    threading.Thread(target=_stop_with_parent, name="watch of the grid", daemon=True).start()
    sys.exit(run_script(command))


def _print_into(log: Path) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


def _stop_with_parent() -> None:
    """Ask this process to save and end once the one that runs the grid is dead."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
