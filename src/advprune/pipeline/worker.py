"""Run one rank of a job as a process of its own, which ``spawn`` starts on each device."""

import logging.config
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from advprune.distributed import collectives, environment
from advprune.errors import UserError, system_sentence
from advprune.pipeline.executor import ensure_stages
from advprune.runtime import preemption
from advprune.stages.training_phase import RunContext
from advprune.store.keys import Node
from advprune.store.stage import Plan
from advprune.store.store import Store

#: What gloo and NCCL say where another rank is gone, and for how long such news is held back.
LOST = re.compile(
    r"Connection (reset|closed|refused)|remote worker|NCCL.*(remote|abort)", re.DOTALL
)
SECONDARY_FAILURE_DELAY_S = 10.0


def delay_secondary_failure(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; if it lost another rank, wait before failing.

    So the rank that died first is seen first and named as the cause.
    """
    try:
        return function(*arguments)
    except RuntimeError as error:
        if LOST.search(str(error)):
            time.sleep(SECONDARY_FAILURE_DELAY_S)  # the engine stops this process within it
        raise


def work(plan: Plan, root: Path, where: RunContext, image_size: int, logs: Node) -> int:
    """Find or make the stages together with the other ranks; return how many were made.

    Args:
        plan: of the job.
        root: of the store.
        where: the job runs.
        image_size: side of the images in pixels.
        logs: configuration of logging, for rank 0; the others only print warnings.

    Raises:
        UserError: a sentence for the user; the command shows it.
    """
    _end_with_parent()
    preemption.interrupt_once()
    if os.environ["RANK"] == "0":
        where.output.mkdir(parents=True, exist_ok=True)  # the log is there
        logging.config.dictConfig(logs)
    environment.settle(where.trainer, image_size)
    environment.join_ranks(where.trainer)
    try:
        count = ensure_stages(plan, Store(root), where)
    except OSError as error:
        sentence = system_sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from None
    collectives.leave()
    return count


def _end_with_parent() -> None:
    """Stop this rank when its command dies: one that is killed with -9 cannot stop its ranks."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
