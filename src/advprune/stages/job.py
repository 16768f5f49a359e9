"""One job of any command: check, plan, find or make, and write down its row of the table."""

import errno
import json
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from advprune.errors import UserError
from advprune.loggers.base import Logger
from advprune.report.rows import row_of
from advprune.stages import door
from advprune.stages.make import find_or_make, missing
from advprune.stages.options import GROUPS, names, resolve
from advprune.stages.plan import Plan
from advprune.stages.store import Store, write
from advprune.stages.told import all_of, group, replay, told_to

log = logging.getLogger(__name__)
RECORD = "job.json"


def run(cfg: DictConfig, plan_of: Callable[[dict[str, Any]], Plan], *, value: str = "validation") -> float:
    """Run one job and write ``job.json`` into its folder; a failure is written there too, so that a grid goes on.

    Args:
        plan_of: resolved options -> the stages this command wants.
        value: what a sweeper optimises: ``validation`` (the selection metric on validation images) or ``robust_acc``.
    Returns:
        That value; NaN if the job failed or has none.
    """
    hydra = HydraConfig.get()
    output = Path(hydra.runtime.output_dir)
    record: dict[str, Any] = {
        "names": names(),
        "overrides": list(hydra.overrides.task),
        "number": _number(),
    }
    try:
        record |= {"ratio": cfg.get("ratio"), "seed": cfg.seed, "store": cfg.store, "group": group()}
        record["logger"] = OmegaConf.to_container(cfg.logger, resolve=True)
        record["row"] = _finish(cfg, plan_of, output, record["names"])
    except UserError as error:
        record["failed"] = str(error)
    except OSError as error:
        record["failed"] = _system(error)
    except Exception:  # noqa: BLE001 - a defect, ours or a library's: kept whole in the job's folder, the grid goes on
        record["failed"] = traceback.format_exc()
    if "failed" in record and (is_grid() or record["failed"].startswith("Traceback")):
        log.error("%s", record["failed"])  # a lone job's sentence stands under its table already
    _write(output, record)
    found = record.get("row", {}).get(value)
    return float("nan") if found is None else float(found)


def _finish(
    cfg: DictConfig, plan_of: Callable[[dict[str, Any]], Plan], output: Path, shown: dict[str, str]
) -> dict[str, Any]:
    begun = time.monotonic()
    options = resolve(cfg)
    door.check_numbers(options)
    plan = plan_of(options)
    door.check_signatures(options, ("logger",))
    store = Store(options["store"])
    unmade = missing(plan, store)
    if unmade:
        door.check_signatures(options, GROUPS)
        # torch and Lightning take seconds to import: only where there is work
        from advprune.stages.rehearsal import rehearse

        rehearse(options)
    with told_to(options, plan, output, shown) as logger:
        made = _make(plan, store, options, logger) if unmade else 0
        row = _row(plan, store, output, shown, options)
        if not unmade and not logger.knows(row):
            for stage in all_of(plan, store):
                replay(stage, logger)
        if unmade or not logger.knows(row):
            logger.result(row, all_of(plan, store))
    found = len(plan.stages()) - made
    return row | {"made": made, "found": found, "this_command": time.monotonic() - begun}


def _make(plan: Plan, store: Store, options: dict[str, Any], logger: Logger) -> int:
    from advprune.stages.fit import Where

    where = Where(options["trainer"], logger)
    where.settle(options["dataset"]["image_size"])
    logger.begin()
    return find_or_make(plan, store, where)


def _row(plan: Plan, store: Store, output: Path, shown: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    row = row_of(plan, {stage.key: store.result(stage) for stage in plan.stages()}, store, shown, options)
    if options.get("sizes") or options.get("export"):
        from advprune.stages.delivered import deliver

        row |= deliver(plan, store, output, options)
    return row


def _system(error: OSError) -> str:
    """A sentence for what the machine refuses; anything else whole."""
    path = error.filename or "the store"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write {path}; give another place: store=FOLDER, and hydra.run.dir=FOLDER for the logs"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path} could not be written; free some space and give the same command again"
    return traceback.format_exc()


def _write(output: Path, record: dict[str, Any]) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        write(output / RECORD, json.dumps(record, indent=1, default=str))
    except OSError as error:
        log.error("%s", _system(error))


def _number() -> int:
    """The job's place in its grid; 0 of a lone one."""
    number = OmegaConf.select(HydraConfig.get(), "job.num", throw_on_missing=False)  # type: ignore[arg-type]
    return int(number or 0)


def is_grid() -> bool:
    """Whether this job is one of a ``-m`` grid."""
    return HydraConfig.get().mode == RunMode.MULTIRUN
