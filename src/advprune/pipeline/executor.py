"""Execute a plan: find each stage in the store or make it, once, whoever asks first."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advprune.config.fingerprints import refuse_changed
from advprune.config.job_names import command
from advprune.pipeline.job_log import finished, names, replay
from advprune.runtime.safe_files import write_atomically
from advprune.store.keys import RECIPES, reads_files
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store
from advprune.tracking.progress import phase_of

if TYPE_CHECKING:
    from advprune.stages.training_phase import RunContext

    #: ``(stage, its folder, its parent's folder, where) -> result``.
    StageMaker = Callable[[Stage[Any], Path, Path | None, RunContext], dict[str, Any]]

log = logging.getLogger(__name__)


def missing(plan: Plan, store: Store) -> list[Stage[Any]]:
    """Return the plan's stages that nobody has finished yet, each after what it is made from."""
    todo = [stage for stage in plan.stages if not store.done(stage)]
    return [part for stage in todo for part in (*_missing_scores(stage, store), stage)]


def _missing_scores(stage: Stage[Any], store: Store) -> list[Stage[Any]]:
    return [] if stage.scores is None or store.done(stage.scores) else [stage.scores]


def ensure_stages(plan: Plan, store: Store, where: "RunContext") -> int:
    """Finish every stage of the plan, parents first; return how many were made here.

    Of several ranks, rank 0 asks the store, holds the lock and writes; the others follow it.

    Args:
        plan: of the job.
        store: that keeps the stages.
        where: the job runs.
    """
    from advprune.distributed import collectives

    stage_names, origins = names(plan), _origins(plan, store)
    count = 0
    stages, left = {stage.key: stage for stage in plan.stages}, list(plan.stages)
    while left:
        # rank 0 alone asks the store
        key = _next(left, store).key if collectives.is_rank_zero() else ""
        stage = stages[collectives.broadcast_object(key)]
        left.remove(stage)
        context = replace(where, stage=stage_names[stage.key], folder=store.folder(stage))
        if stage.scores is not None:
            _ensure_scores(stage, stage.scores, store, where)
        if not collectives.is_rank_zero():
            _follow_leader(stage, store, context)
        elif _make_as_leader(stage, store, context, read=stage.key in origins):
            where.logger.finished(finished(stage, plan, store))
            count += 1
        else:
            replay(finished(stage, plan, store), where.logger)
    collectives.all_gather_object(None)  # nobody reads what rank 0 is still writing
    return count


def _next(left: list[Stage[Any]], store: Store) -> Stage[Any]:
    """Return the first stage that can be made now, and that no other process is making.

    Args:
        left: the stages of the plan that were not seen to, in its order.
        store: that knows who makes what.
    """
    keys = {stage.key for stage in left}
    return next(
        (
            stage
            for stage in left
            if not keys & {each.key for each in stage.line[:-1]}
            and not any(map(store.is_claimed, filter(None, (stage.scores, stage))))
        ),
        left[0],
    )


def _ensure_scores(
    pruned: Stage[Any], scores: Stage[Any], store: Store, where: "RunContext"
) -> None:
    """Finish the scores that a missing stage is made from; one that is there needs them no more."""
    from advprune.distributed import collectives

    context = replace(where, stage=scores.kind, folder=store.folder(scores))
    if not collectives.is_rank_zero():
        _follow_leader(scores, store, context)
    elif store.done(pruned):
        collectives.broadcast_object(False)
    else:
        _make_as_leader(scores, store, context, read=True)


def _make_as_leader(stage: Stage[Any], store: Store, where: "RunContext", *, read: bool) -> bool:
    """Find the stage or make it; return whether it was made.

    Args:
        stage: to find or make.
        store: that keeps it.
        where: the job runs.
        read: compare its files with their checksums, as others are made from it.
    """
    from advprune.distributed import collectives

    if not store.done(stage, read=read):
        with store.claim(stage, waiting=lambda seconds: _waiting(stage, where, seconds)) as folder:
            if not store.done(stage, read=read):
                collectives.broadcast_object(True)
                _make(stage, store, folder, where)
                collectives.with_communication()
                return True
    collectives.broadcast_object(False)
    store.note(stage, "found")
    return False


def _follow_leader(stage: Stage[Any], store: Store, where: "RunContext") -> None:
    """Help rank 0 to make the stage, if that is what it does."""
    from advprune.distributed import collectives

    if collectives.broadcast_object(False):
        try:
            stage_makers()[stage.kind](stage, store.folder(stage), _parent(stage, store), where)
        except collectives.RankFinished:
            return
        raise AssertionError(f"stage {stage.kind} does not say where rank 0 goes on alone")


def stage_makers() -> "dict[str, StageMaker]":
    """Return the function that makes each kind of stage.

    They are imported only where there is something to make: a second command needs no torch.
    """
    from advprune.stages import dense, evaluated, examples, finetuned, pruned, quantized, scores

    return {
        "dense": dense.make,
        "scores": scores.make,
        "pruned": pruned.make,
        "finetuned": finetuned.make,
        "quantized": quantized.make,
        "examples": examples.make,
        "evaluated": evaluated.make,
    }


def _parent(stage: Stage[Any], store: Store) -> Path | None:
    return store.folder(stage.parent) if stage.parent else None


def _origins(plan: Plan, store: Store) -> set[str]:
    """Return the keys of what missing stages are made from, to be checked whole before."""
    todo = missing(plan, store)
    return {
        origin.key
        for stage in todo
        for origin in (stage.parent, stage.examples)
        if origin is not None
    }


def _make(stage: Stage[Any], store: Store, folder: Path, where: "RunContext") -> None:
    from omegaconf import OmegaConf

    from advprune.runtime.provenance import provenance

    phase, place = phase_of(where.stage), f"{stage.kind}/{stage.key}"
    log.info("%s", where.title.line(f"{phase} begins: {place}"))
    # since the job was planned: the stages before this one may take days
    _refuse_changed_files(stage, store)
    store.begin(stage)
    write_atomically(
        folder / "config.yaml",
        OmegaConf.to_yaml(OmegaConf.create({"stage": stage.kind, **stage.record})),
    )
    begun = time.monotonic()
    result = stage_makers()[stage.kind](stage, folder, _parent(stage, store), where)
    _refuse_changed_files(stage, store)
    seconds = here = time.monotonic() - begun
    facts = {
        "stage": stage.kind,
        "key": stage.key,
        "parent": stage.parent.key if stage.parent else None,
        "recipe": RECIPES[stage.kind],
    }
    if stage.examples is not None:
        facts["examples"] = stage.examples.key
    if stage.scores is not None:  # what the stage would take alone
        facts["scores"] = stage.scores.key
        seconds += store.result(stage.scores)["seconds"]
    store.finish(stage, result | facts | {"seconds": seconds, "provenance": provenance(command())})
    store.note(stage, "made", seconds=round(here, 2))
    log.info("%s", where.title.line(f"{phase} took {here:.1f} s: {place}"))


def _refuse_changed_files(stage: Stage[Any], store: Store) -> None:
    if reads_files(stage.record):
        refuse_changed(stage.record, store.root)


def _waiting(stage: Stage[Any], where: "RunContext", seconds: float) -> None:
    if seconds % 60 == 0 or seconds == 5:
        line = f"another process is at {phase_of(where.stage)}: {stage.kind}/{stage.key}"
        log.info("%s", where.title.line(line, f"waiting for {seconds:.0f} s so far"))
