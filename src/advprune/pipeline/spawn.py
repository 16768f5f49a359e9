"""Start the ranks of a job, where neither torchrun nor srun has.

torchrun's engine (``torch.distributed.launcher``) starts one process a device, finds them a place
to meet, watches them, and stops all within seconds of the death of one. Lightning's own launcher
would run the command again in each child, with Hydra and the whole grid.
"""

import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from advprune.distributed import environment
from advprune.errors import UserError
from advprune.pipeline import worker
from advprune.stages.training_phase import RunContext
from advprune.store.keys import Node
from advprune.store.stage import Plan
from advprune.store.store import Store
from advprune.tracking.relay import for_ranks

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
#: What the stages import when they are made.
PRELOADED = (
    "pandas",
    "advprune.stages.pruned",
    "advprune.stages.finetuned",
    "advprune.stages.examples",
)
SENTENCE = f"{UserError.__name__}: "


class RankDiedError(Exception):
    """Signal that a rank ended without a sentence for the user, such as when it is killed."""


def make_on_ranks(plan: Plan, store: Store, where: RunContext, image_size: int, logs: Node) -> int:
    """Find or make every stage of the plan on several ranks, which are started here.

    Args:
        plan: of the job.
        store: that keeps the stages.
        where: the job runs.
        image_size: side of the images in pixels.
        logs: the configuration of ``logging``, for the processes started here.

    Returns:
        How many stages were made.

    Raises:
        UserError: what a rank raised; or that one died, again after all retries.
    """
    with for_ranks(where.logger) as logger:
        return _with_retries(plan, store, replace(where, logger=logger), image_size, logs)


def _with_retries(plan: Plan, store: Store, where: RunContext, image_size: int, logs: Node) -> int:
    """Work on all ranks, and again if one of them dies; see ``make_on_ranks``."""
    retries, size = where.trainer.retries, where.trainer.devices or 1
    gpu, arguments = environment.on_gpu(where.trainer), (where, image_size, logs)
    for attempt in range(retries + 1):
        try:
            made = on_ranks(size, worker.work, plan, store.root.absolute(), *arguments, gpu=gpu)
            return int(made[0])
        except RankDiedError as death:
            if attempt == retries:
                raise UserError(
                    f"{death}; the same command goes on from the last checkpoint"
                ) from None
            log.warning(
                "%s; all ranks start again from the last checkpoint (%d of %d)",
                death,
                attempt + 1,
                retries,
            )
    raise AssertionError


def on_ranks(
    size: int, function: Callable[..., Any], *arguments: Any, gpu: bool = False
) -> dict[int, Any]:
    """Call a function in ``size`` new processes of this machine; return each rank's result.

    Args:
        size: number of ranks.
        function: of a module; it and the arguments are pickled. It joins the others by
            ``environment.join_ranks``.
        *arguments: of the function.
        gpu: whether the ranks use GPUs, which a forked process may not.

    Raises:
        UserError: that a rank raised.
        RankDiedError: if one ended otherwise; the others are stopped.
    """
    # they are forked off a process that has imported what they need, once for all jobs of a grid
    if not gpu:
        multiprocessing.set_forkserver_preload([worker.__name__, *PRELOADED])
    # what they report is raised below
    for name in (
        "torch.distributed.elastic",
        "torch.multiprocessing",
    ):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="advprune_ranks_") as folder, _signals_kept():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=size,
            run_id=f"advprune-{os.getpid()}",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            start_method="spawn" if gpu else "forkserver",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            return elastic_launch(config, worker.delay_secondary_failure)(function, *arguments)
        except ChildFailedError as error:
            _raise_failure(*error.get_first_failure(), size)
        except SignalException as caught:
            received = caught.sigval
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    # to whoever handles it in this process, now that the ranks are gone
    os.kill(os.getpid(), received)
    raise KeyboardInterrupt


def _raise_failure(number: int, failure: ProcessFailure, size: int) -> None:
    """Raise what ended the first rank that failed.

    Raises:
        UserError: if the rank gave a sentence for the user.
        RankDiedError: otherwise.
    """
    message = failure.error_file_data.get("message", {})
    if isinstance(message, dict) and str(message.get("message", "")).startswith(SENTENCE):
        raise UserError(str(message["message"]).removeprefix(SENTENCE))
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        raise RankDiedError(
            f"rank {number} of {size} was killed ({name}) and the others were stopped"
        )
    text = (
        message.get("extraInfo", {}).get("py_callstack", "")
        if isinstance(message, dict)
        else str(message)
    )
    raise RankDiedError(
        f"rank {number} of {size} failed and the others were stopped; it said:\n{text}"
    )


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the signal handlers, which the engine replaces and does not give back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
