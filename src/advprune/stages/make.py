"""Find or make: the stages of a plan, each made once whoever asks first."""

import logging
import time
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from advprune.stages.plan import Plan, Stage
from advprune.stages.store import Store, write
from advprune.stages.told import finished, names, replay

if TYPE_CHECKING:
    from advprune.stages.fit import Where

log = logging.getLogger(__name__)


def missing(plan: Plan, store: Store) -> list[Stage]:
    """The plan's stages that nobody has finished yet."""
    return [stage for stage in plan.stages() if not store.done(stage)]


def find_or_make(plan: Plan, store: Store, where: "Where") -> int:
    """Finish every stage of the plan, parents first; return how many were made here.

    Each kind of stage is one module of this package with ``make(stage, folder, parent folder, where) -> result``.
    """
    made, called = 0, names(plan)
    for stage in plan.stages():
        if not store.done(stage):
            with store.claim(stage, waiting=lambda s, stage=stage: _waiting(stage, s)) as folder:
                if not store.done(stage):
                    _make(stage, store, folder, replace(where, stage=called[stage.key], folder=folder))
                    where.logger.finished(finished(stage, plan, store))
                    made += 1
                    continue
        store.note(stage, "found")
        replay(finished(stage, plan, store), where.logger)
    return made


def _make(stage: Stage, store: Store, folder: Any, where: "Where") -> None:
    from omegaconf import OmegaConf

    from advprune.stages.provenance import provenance

    log.info("making %s %s", stage.kind, stage.key)
    write(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({"stage": stage.kind, **stage.options})))
    begun = time.monotonic()
    maker = import_module(f"advprune.stages.{stage.kind}")
    parent = store.folder(stage.parent) if stage.parent else None
    result = maker.make(stage, folder, parent, where)
    seconds = time.monotonic() - begun
    facts = {"stage": stage.kind, "key": stage.key, "parent": stage.parent.key if stage.parent else None}
    store.finish(stage, result | facts | {"seconds": seconds, "provenance": provenance()})
    store.note(stage, "made", seconds=round(seconds, 2))
    log.info("made %s %s in %.1f s", stage.kind, stage.key, seconds)


def _waiting(stage: Stage, seconds: float) -> None:
    if seconds % 60 == 0 or seconds == 5:
        log.info("waiting for another process to make %s %s (%.0f s so far)", stage.kind, stage.key, seconds)
