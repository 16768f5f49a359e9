"""Find or make: the stages of a plan, each made once whoever asks first."""

import logging
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from advprune.atomic import replace
from advprune.stages.keys import RECIPES
from advprune.stages.plan import Plan, Stage
from advprune.stages.store import Store

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
    made, origins = 0, _origins(plan, store)
    for stage in plan.stages():
        if store.done(stage, read=stage.key in origins):
            store.note(stage, "found")
            continue
        with store.claim(stage, waiting=lambda s, stage=stage: _waiting(stage, s)) as folder:
            if store.done(stage, read=stage.key in origins):
                store.note(stage, "found")
                continue
            _make(stage, store, folder, where)
            made += 1
    return made


def _origins(plan: Plan, store: Store) -> set[str]:
    """The keys of what the missing stages are made from: read whole, so that nothing is made from a damaged file."""
    todo = missing(plan, store)
    return {origin.key for stage in todo for origin in (stage.parent, stage.examples) if origin is not None}


def _make(stage: Stage, store: Store, folder: Any, where: "Where") -> None:
    from omegaconf import OmegaConf

    from advprune.stages.provenance import provenance

    log.info("making %s %s", stage.kind, stage.key)
    store.begin(stage)
    replace(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({"stage": stage.kind, **stage.options})))
    begun = time.monotonic()
    maker = import_module(f"advprune.stages.{stage.kind}")
    parent = store.folder(stage.parent) if stage.parent else None
    result = maker.make(stage, folder, parent, where)
    seconds = time.monotonic() - begun
    facts = {"stage": stage.kind, "key": stage.key, "parent": stage.parent.key if stage.parent else None,
             "recipe": RECIPES[stage.kind]}  # fmt: skip
    store.finish(stage, result | facts | {"seconds": seconds, "provenance": provenance()})
    store.note(stage, "made", seconds=round(seconds, 2))
    log.info("made %s %s in %.1f s", stage.kind, stage.key, seconds)


def _waiting(stage: Stage, seconds: float) -> None:
    if seconds % 60 == 0 or seconds == 5:
        log.info("waiting for another process to make %s %s (%.0f s so far)", stage.kind, stage.key, seconds)
