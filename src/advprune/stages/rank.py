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

from advprune import ranks
from advprune.errors import UserError
from advprune.stages import devices
from advprune.stages.fit import Where
from advprune.stages.job import system_sentence
from advprune.stages.make import find_or_make
from advprune.stages.plan import Plan
from advprune.stages.store import Store

#: What gloo and NCCL say where another rank is gone, and for how long such news is held back.
LOST = re.compile(r"Connection (reset|closed|refused)|remote worker|NCCL.*(remote|abort)", re.DOTALL)
MOURNING_S = 10.0


def last_to_tell(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call; a rank that lost another waits, so that the one that died is seen first and named as the cause."""
    try:
        return function(*arguments)
    except RuntimeError as error:
        if LOST.search(str(error)):
            time.sleep(MOURNING_S)  # the engine stops this process within it
        raise


def work(plan: Plan, root: Path, where: Where, image_size: int, logs: dict[str, Any]) -> int:
    """Find or make the stages together with the other ranks.

    Args:
        root: of the store.
        logs: of the command that started this, for rank 0; the others say nothing that is not a warning.
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
        made = find_or_make(plan, Store(root), where)
    except OSError as error:
        sentence = system_sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from None
    ranks.leave()
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
