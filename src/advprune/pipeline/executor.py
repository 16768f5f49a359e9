"""Find or make: the stages of a plan, each made once whoever asks first."""

import logging
import time
from dataclasses import replace as with_
from importlib import import_module
from typing import TYPE_CHECKING, Any

from advprune.config.fingerprints import refuse_changed
from advprune.config.overrides import command
from advprune.pipeline.job_log import finished, names, replay
from advprune.runtime.atomic_write import write_atomically
from advprune.store.keys import RECIPES
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store

if TYPE_CHECKING:
    from advprune.stages.training_phase import RunContext

log = logging.getLogger(__name__)


def missing(plan: Plan, store: Store) -> list[Stage]:
    """The plan's stages that nobody has finished yet."""
    return [stage for stage in plan.stages() if not store.done(stage)]


def ensure_stages(plan: Plan, store: Store, where: "RunContext") -> int:
    """Finish every stage of the plan, parents first; return how many were made here.

    Each kind of stage is one module of this package with ``make(stage, folder, parent folder,
    where) -> result``. Of several ranks, the first asks the store, holds the lock and writes; the
    others do as it says.
    """
    from advprune.distributed import collectives

    called, origins = names(plan), _origins(plan, store)
    made = 0
    for stage in plan.stages():
        mine = with_(where, stage=called[stage.key], folder=store.folder(stage))
        if not collectives.is_rank_zero():
            _follow_leader(stage, store, mine)
        elif _make_as_leader(stage, store, mine, read=stage.key in origins):
            where.logger.finished(finished(stage, plan, store))
            made += 1
        else:
            replay(finished(stage, plan, store), where.logger)
    collectives.all_gather_object(None)  # nobody reads what rank 0 is still writing
    return made


def _make_as_leader(stage: Stage, store: Store, where: "RunContext", *, read: bool) -> bool:
    """Find the stage or make it; whether it was made. ``read``: check its files whole, as others are made of it."""
    from advprune.distributed import collectives

    if not store.done(stage, read=read):
        with store.claim(stage, waiting=lambda seconds: _waiting(stage, seconds)) as folder:
            if not store.done(stage, read=read):
                collectives.broadcast_object(True)
                _make(stage, store, folder, where)
                collectives.together()
                return True
    collectives.broadcast_object(False)
    store.note(stage, "found")
    return False


def _follow_leader(stage: Stage, store: Store, where: "RunContext") -> None:
    """Help rank 0 to make the stage, if that is what it does."""
    from advprune.distributed import collectives

    if collectives.broadcast_object(False):
        try:
            _maker(stage)(stage, store.folder(stage), _parent(stage, store), where)
        except collectives.Over:
            return
        raise AssertionError(f"stage {stage.kind} does not say where rank 0 goes on alone")


def _maker(stage: Stage) -> Any:
    return import_module(f"advprune.stages.{stage.kind}").make


def _parent(stage: Stage, store: Store) -> Any:
    return store.folder(stage.parent) if stage.parent else None


def _origins(plan: Plan, store: Store) -> set[str]:
    """The keys of what the missing stages are made from: read whole, so that nothing is made from a damaged file."""
    todo = missing(plan, store)
    return {
        origin.key
        for stage in todo
        for origin in (stage.parent, stage.examples)
        if origin is not None
    }


def _make(stage: Stage, store: Store, folder: Any, where: "RunContext") -> None:
    from omegaconf import OmegaConf

    from advprune.store.provenance import provenance

    log.info("making %s %s", stage.kind, stage.key)
    # since the job was planned: the stages before this one may take days
    refuse_changed(stage.options, store.root)
    store.begin(stage)
    write_atomically(
        folder / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.create({"stage": stage.kind, **stage.options})),
    )
    begun = time.monotonic()
    result = _maker(stage)(stage, folder, _parent(stage, store), where)
    refuse_changed(stage.options, store.root)
    seconds = time.monotonic() - begun
    facts = {
        "stage": stage.kind,
        "key": stage.key,
        "parent": stage.parent.key if stage.parent else None,
        "recipe": RECIPES[stage.kind],
    }
    if stage.examples is not None:
        facts["examples"] = stage.examples.key
    store.finish(stage, result | facts | {"seconds": seconds, "provenance": provenance(command())})
    store.note(stage, "made", seconds=round(seconds, 2))
    log.info("made %s %s in %.1f s", stage.kind, stage.key, seconds)


def _waiting(stage: Stage, seconds: float) -> None:
    if seconds % 60 == 0 or seconds == 5:
        log.info(
            "waiting for another process to make %s %s (%.0f s so far)",
            stage.kind,
            stage.key,
            seconds,
        )
