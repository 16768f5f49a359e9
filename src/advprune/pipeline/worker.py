"""One rank of a job, as a process of its own: what ``start`` starts on each device."""

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

from advprune.distributed import collectives, devices
from advprune.errors import UserError, system_sentence
from advprune.pipeline.executor import ensure_stages
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Plan
from advprune.store.store import Store

#: What gloo and NCCL say where another rank is gone, and for how long such news is held back.
LOST = re.compile(
    r"Connection (reset|closed|refused)|remote worker|NCCL.*(remote|abort)", re.DOTALL
)
SECONDARY_FAILURE_DELAY_S = 10.0


def delay_secondary_failure(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call; a rank that lost another waits, so that the one that died is seen first and named as the cause."""
    try:
        return function(*arguments)
    except RuntimeError as error:
        if LOST.search(str(error)):
            time.sleep(SECONDARY_FAILURE_DELAY_S)  # the engine stops this process within it
        raise


def work(plan: Plan, root: Path, where: RunContext, image_size: int, logs: dict[str, Any]) -> int:
    """Find or make the stages together with the other ranks.

    Args:
        root: of the store.
        logs: of the command that started this, for rank 0; the others say nothing that is not a
            warning.

    Returns:
        How many stages were made.

    Raises:
        UserError: a sentence for the user; the command shows it.
    """
    _end_with_parent()
    if os.environ["RANK"] == "0":
        where.output.mkdir(parents=True, exist_ok=True)  # the log is there
        logging.config.dictConfig(logs)
    where.settle(image_size)
    devices.join(where.trainer)
    try:
        made = ensure_stages(plan, Store(root), where)
    except OSError as error:
        sentence = system_sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from None
    collectives.leave()
    return made


def _end_with_parent() -> None:
    """A command that is killed with -9 cannot stop its ranks; they stop by themselves."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
