"""Run one job of any command: check it, plan it, make what is missing, write its row."""

import json
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from advprune.config import validate
from advprune.config.job_names import GROUPS, grid_name, names
from advprune.config.options import Options, load, resolved_path, spelled
from advprune.distributed import environment
from advprune.errors import TrialPruned, UserError, system_sentence
from advprune.pipeline.executor import ensure_stages, missing
from advprune.pipeline.job_log import (
    before_planning,
    described,
    finished_stages,
    job_logger,
    replay,
    title_of,
)
from advprune.report.table.job_row import row_of
from advprune.runtime.safe_files import write_atomically
from advprune.store.keys import Node
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store
from advprune.tracking.grid_place import RECORD
from advprune.tracking.logger import Logger
from advprune.tracking.progress import JobTitle

log = logging.getLogger(__name__)


@dataclass
class Lookup:
    """Hold what a job that was only looked up lacks.

    Attributes:
        missing: its stages that are not in the store, in the order in which they are made.
        store: that was asked.
    """

    missing: list[Stage[Any]] = field(default_factory=list)
    store: Store | None = None

    def folder(self, stage: Stage[Any]) -> Path:
        """Return where a stage will be."""
        assert self.store is not None
        return self.store.folder(stage).absolute()


#: Hydra calls the script's ``main`` in between, which has no argument for it.
_LOOKING = ContextVar[Lookup | None]("looking", default=None)


class NotFoundError(Exception):
    """Signal that something would have to be made, where a job may only be looked up."""


@contextmanager
def lookup_only() -> Iterator[Lookup]:
    """Inside, a finished job writes its row; one that is not leaves no trace.

    Yields:
        What it lacks, once it was called.
    """
    lookup = Lookup()
    token = _LOOKING.set(lookup)
    try:
        yield lookup
    finally:
        _LOOKING.reset(token)


def run(cfg: DictConfig, plan_of: Callable[[Options], Plan], *, value: str = "validation") -> float:
    """Run one job and write ``job.json`` into its folder, of a failure too: a grid goes on.

    Args:
        cfg: composed by Hydra.
        plan_of: options -> the stages this command wants.
        value: what a sweeper optimises: ``validation`` (the selection metric on validation images)
            or ``robust_acc``.

    Returns:
        That value; NaN if the job failed or has none.
    """
    hydra = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    record: Node = {
        "names": before_planning(names(output), cfg.get("checkpoint")),
        "overrides": list(hydra.overrides.task),
        "number": _number(),
    }
    try:
        record |= {
            "ratio": None if cfg.get("checkpoint") else spelled(cfg.get("ratio")),
            "seed": cfg.seed,
            "store": resolved_path(cfg.store),
            "group": grid_name(output),
        }
        record["row"] = _find_or_make(cfg, plan_of, output, record)
    except NotFoundError:
        return float("nan")
    except TrialPruned as trial:
        record["given_up"] = str(trial)
    except UserError as error:
        record["failed"] = str(error)
    except OSError as error:
        record["failed"] = system_sentence(error) or traceback.format_exc()
    except Exception:  # noqa: BLE001 - a defect, ours or a library's: kept whole in the job's folder, the grid goes on
        record["failed"] = traceback.format_exc()
    in_ranks = environment.launched_world()[1] > 1
    if "failed" in record and (is_grid() or in_ranks or record["failed"].startswith("Traceback")):
        log.error("%s", record["failed"])  # a lone job's sentence is under its table already
    record["value"] = record.get("row", {}).get(value)
    if environment.launched_world()[0] == 0:
        _write(output, record)
    if "failed" in record and in_ranks:
        os._exit(1)  # whoever started the ranks stops the others, which may be waiting for this one
    return float("nan") if record["value"] is None else float(record["value"])


def _find_or_make(
    cfg: DictConfig, plan_of: Callable[[Options], Plan], output: Path, record: Node
) -> dict[str, Any]:
    """Check, plan, find or make, and log one job; return its row of the table."""
    begun = time.monotonic()
    options = load(cfg)
    plan = plan_of(options)
    record["names"] = described(record["names"], plan)
    title = title_of(record, output)
    validate.check_signatures(options.node, ("logger",))
    store = Store(options.store)
    delivers = bool(options.sizes or options.export)
    todo = missing(plan, store)
    if (lookup := _LOOKING.get()) is not None and (todo or delivers):
        lookup.missing, lookup.store = todo, store
        raise NotFoundError
    # ranks that others started ask the store together
    making = bool(todo) or environment.launched_world()[1] > 1
    if making:
        _prepare(options, store, output, record)
    with job_logger(options, plan, output, record["names"]) as logger:
        made_count = _make(plan, store, options, output, logger, title) if making else 0
        row = _row(plan, store, output, record["names"], options, delivers=delivers)
        if making or not logger.knows(row):
            stages = finished_stages(plan, store)
            for stage in () if making else stages:
                replay(stage, logger)
            logger.result(row, stages)
    found_count = len(plan.stages) - made_count
    seconds = time.monotonic() - begun
    return row | {"made": made_count, "found": found_count, "this_command": seconds}


def _prepare(options: Options, store: Store, output: Path, record: Node) -> None:
    """Record that the job has begun, and check all that can be checked before it makes a stage."""
    # without a row: so others see that it has begun, should it be killed
    if environment.launched_world()[0] == 0:
        _write(output, record | {"host": socket.gethostname(), "pid": os.getpid()})
    check_place(store.root)
    validate.check_signatures(options.node, GROUPS)
    # torch and Lightning take seconds to import: only where there is work
    from advprune.pipeline.dry_run import dry_run

    dry_run(options)


def _make(
    plan: Plan, store: Store, options: Options, output: Path, logger: Logger, title: JobTitle
) -> int:
    """Make what is missing, on as many ranks as the trainer asks for; return how much that was."""
    from advprune.stages.training_phase import RunContext

    trainer = environment.with_device_count(options.trainer)
    environment.check(trainer)
    where = RunContext(trainer, logger, output, reported=plan.final.key, title=title)
    environment.settle(trainer, options.dataset.image_size)
    logger.begin()
    if environment.launched_world()[1] > 1:
        environment.join_ranks(trainer)
    elif trainer.devices != 1:
        from advprune.pipeline.spawn import make_on_ranks

        return make_on_ranks(plan, store, where, options.dataset.image_size, _logs())
    return ensure_stages(plan, store, where)


def _row(
    plan: Plan,
    store: Store,
    output: Path,
    shown: dict[str, str],
    options: Options,
    *,
    delivers: bool,
) -> dict[str, Any]:
    row = row_of(
        plan, {stage.key: store.result(stage) for stage in plan.stages}, store, shown, options
    )
    if delivers:
        from advprune.pipeline.artifacts import export_artifacts

        row |= export_artifacts(plan, store, output, options, row)
    return row


def check_place(store: Path) -> None:
    """Refuse a store in which nothing can be made.

    Raises:
        UserError: with the system's reason.
    """
    try:
        missing_folders = [folder for folder in (store, *store.parents) if not folder.exists()]
        store.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another job has put something into one meanwhile
            for folder in missing_folders:  # so that a refusal leaves none behind
                folder.rmdir()
    except OSError as error:
        raise UserError(
            system_sentence(error)
            or f"store={store} cannot be a folder ({error.strerror}): give another place, "
            "store=FOLDER"
        ) from None


def _write(output: Path, record: Node) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        # read back within this command; what must last is in the store
        write_atomically(output / RECORD, json.dumps(record, indent=1, default=str), durable=False)
    except OSError as error:
        log.error("%s", system_sentence(error) or error)


def _logs() -> dict[str, Any]:
    """Return how this command logs, for the processes that it starts."""
    whole = OmegaConf.create({"hydra": OmegaConf.to_container(HydraConfig.get(), resolve=False)})
    plain = OmegaConf.to_container(whole.hydra.job_logging, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _number() -> int:
    """Return the job's place in its grid; 0 of a lone one."""
    number = OmegaConf.select(HydraConfig.get(), "job.num", throw_on_missing=False)  # type: ignore[arg-type]
    return int(number or 0)


def is_grid() -> bool:
    """Return whether this job is one of a ``-m`` grid."""
    return HydraConfig.get().mode == RunMode.MULTIRUN
