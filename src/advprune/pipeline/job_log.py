"""Log a job: who it is before anything is made, and all that is known of stages it found."""

import logging
import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advprune.config.grid_name import command_name, grid_name
from advprune.config.options import Options
from advprune.config.overrides import command
from advprune.pipeline.network_labels import described, file_of, used
from advprune.ranges import fraction
from advprune.report.data.attack_names import threat_text
from advprune.runtime.provenance import code_version
from advprune.runtime.safe_files import read_json
from advprune.store.keys import SUGGESTED, WHERE
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store
from advprune.tracking.guarded import Guarded
from advprune.tracking.logger import CURVES, Finished, Job, Logger

log = logging.getLogger(__name__)
#: The longest name of a run; W&B takes 128 characters.
LONGEST = 120


@contextmanager
def job_logger(
    options: Options, plan: Plan, output: Path, shown: dict[str, str]
) -> Iterator[Logger]:
    """Open the job's logger, and close it whatever happens; only rank 0 has one.

    Args:
        options: of the job.
        plan: of the job.
        output: the job's folder.
        shown: names of the groups' members, for people.

    Yields:
        The logger.

    Raises:
        UserError: if it needs a package that is not installed.
    """
    logger = Guarded(options.logger.build() if is_rank_zero() else Logger())
    failed = True
    try:
        logger.open(_job(options, plan, output, shown))
        yield logger
        failed = False
    finally:
        logger.close(failed=failed)


def is_rank_zero() -> bool:
    """Return whether this process is the only one of its job, or its rank 0."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def names(plan: Plan) -> dict[str, str]:
    """Return the name of each stage, by key.

    It is its kind, with ``source_`` before those of a transfer attack's source, and
    ``evaluated_dense`` for the parent's evaluation.
    """
    line = {stage.key for stage in [plan.final, *plan.final.line()]}
    named = {
        stage.key: stage.kind if stage.key in line else f"source_{stage.kind}"
        for stage in plan.stages()
    }
    return named | {plan.evaluated_dense.key: "evaluated_dense", plan.evaluated.key: "evaluated"}


def finished_stages(plan: Plan, store: Store) -> list[Finished]:
    """Return the plan's stages, which are all finished."""
    return [finished(stage, plan, store) for stage in plan.stages()]


def finished(stage: Stage[Any], plan: Plan, store: Store) -> Finished:
    """Return one finished stage."""
    return Finished(names(plan)[stage.key], store.folder(stage), store.result(stage))


def replay(stage: Finished, logger: Logger) -> None:
    """Log a stage that was found: its curves, if they were kept, and what it says of itself."""
    path = stage.folder / CURVES
    try:
        phases = read_json(path) if path.exists() else {}
    except (OSError, ValueError) as error:
        log.warning(
            "%s is damaged (%s): its curves are not logged; the result is not of it", path, error
        )
        phases = {}
    for rows in phases.values():
        for row in rows:
            logger.point(stage.stage, row)
    logger.finished(stage)


def _job(options: Options, plan: Plan, output: Path, shown: dict[str, str]) -> Job:
    shown, words = described(shown, plan), used(options.node, plan)
    ratio, file = words.get("ratio"), file_of(plan.dense)
    subject = [
        shown.get("pruner") or file or "dense",
        *([] if ratio is None or "pruner" not in shown else [f"{ratio:g}"]),
    ]
    threat = options.evaluation_threat
    norm, eps = threat.name.lower(), threat.node.get("eps")
    budget = []
    if options.attack.perturbation is None and eps is not None:
        budget = [threat_text({"norm": norm, "eps": fraction(eps)})]
    where = [shown["attack"], *budget, shown["model"], shown["dataset"], f"seed {options.seed}"]
    named = names(plan)
    config = {
        **shown,
        "ratio": ratio,
        "weights": file,
        "seed": options.seed,
        "eps": eps,
        "norm": norm,
        "options": _plain(
            {name: value for name, value in words.items() if name not in ("logger", "store")}
            | {"dataset": {n: v for n, v in words["dataset"].items() if n not in SUGGESTED}}
        ),
        "keys": {named[stage.key]: stage.key for stage in plan.stages()},
        "final": named[plan.final.key],
        "code": code_version(),
        "command": command(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "output": str(output),
    }
    return Job(
        id=plan.evaluated.key,
        name=" ".join([*subject, "·", *where])[:LONGEST],
        group=grid_name(output),
        config=config,
        output=output,
        kind=command_name(),
        tags=[word[:64] for word in (*subject, *where)],
        shared=options.store.parent,
        stages=list(dict.fromkeys(named.values())),
    )


def _plain(value: Any) -> Any:
    """Return the options without paths of this machine."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items() if name not in WHERE}
    return value
