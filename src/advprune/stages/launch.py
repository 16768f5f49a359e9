"""The ranks of a job: started here by torchrun's engine, one process a device, or met where torchrun or srun did it.

The engine (``torch.distributed.launcher``) finds the ranks a place to meet, watches them, and stops all within seconds
of the death of one. Lightning's own launcher would run the command again in each child, with Hydra and the whole grid.
"""

import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from advprune.errors import UserError
from advprune.stages import devices, rank, world
from advprune.stages.fit import Where
from advprune.stages.make import find_or_make
from advprune.stages.plan import Plan
from advprune.stages.store import Store

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
SENTENCE = f"{UserError.__name__}: "


class _Died(Exception):  # noqa: N818 - of a rank
    """A rank ended without a sentence for the user: killed, out of memory, or by a defect."""


def make(plan: Plan, store: Store, where: Where, image_size: int, logs: dict[str, Any]) -> int:
    """Find or make every stage of the plan, on as many ranks as the trainer asks for; return how many were made.

    Args:
        logs: the configuration of ``logging``, for the processes started here.
    Raises:
        UserError: if there are too few devices; what a rank raised; or that one died, again after all retries.
    """
    where = replace(where, trainer=devices.settled(where.trainer))
    world.check(where.trainer)
    if world.started()[1] > 1:
        where.settle(image_size)
        devices.join(where.trainer)
        return find_or_make(plan, store, where)
    if where.trainer["devices"] == 1:
        where.settle(image_size)
        return find_or_make(plan, store, where)
    retries = int(where.trainer.get("retries", 0))
    for attempt in range(retries + 1):
        try:
            return _start(where, (plan, store.root.absolute(), where, image_size, logs))
        except _Died as death:
            if attempt == retries:
                raise UserError(f"{death}; the same command goes on from the last checkpoint") from None
            log.warning("%s; all ranks start again from the last checkpoint (%d of %d)", death, attempt + 1, retries)
    raise AssertionError


def _start(where: Where, arguments: tuple[Any, ...]) -> int:
    """Start the ranks, wait for them, and give back what rank 0 returned."""
    on_gpu = devices.on_gpu(where.trainer)
    if not on_gpu:  # they are forked off a process that has imported torch, once for all jobs of a grid
        multiprocessing.set_forkserver_preload([rank.__name__])
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="advprune_ranks_") as folder, _signals_kept():
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=where.trainer["devices"], run_id=f"advprune-{os.getpid()}",
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
            start_method="spawn" if on_gpu else "forkserver", logs_specs=DefaultLogsSpecs(log_dir=folder),
        )  # fmt: skip
        try:
            return int(elastic_launch(config, rank.work)(*arguments)[0])
        except ChildFailedError as error:
            _tell(*error.get_first_failure(), where.trainer["devices"])
        except SignalException as caught:
            received = caught.sigval
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    os.kill(os.getpid(), received)  # to whoever handles it in this process, now that the ranks are gone
    raise KeyboardInterrupt


def _tell(number: int, failure: ProcessFailure, size: int) -> None:
    """Raise what ended the first rank that failed.

    Raises:
        UserError: if the rank said it in a sentence.
        _Died: otherwise.
    """
    said = failure.error_file_data.get("message", {})
    if isinstance(said, dict) and str(said.get("message", "")).startswith(SENTENCE):
        raise UserError(str(said["message"]).removeprefix(SENTENCE))
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        raise _Died(f"rank {number} of {size} was killed ({name}) and the others were stopped")
    text = said.get("extraInfo", {}).get("py_callstack", "") if isinstance(said, dict) else str(said)
    raise _Died(f"rank {number} of {size} failed and the others were stopped; it said:\n{text}")


@contextmanager
def _signals_kept() -> Iterator[None]:
    """The engine handles signals and does not give the handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
