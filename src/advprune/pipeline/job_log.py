"""Log a job: who it is before anything is made, and all that is known of stages it found.

``attack.py checkpoint=FILE`` has a pruner, a ratio and an objective like every command, and none of
them made the file: of its words only those count that the stages of the network were made with.
"""

import logging
import platform
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advprune.config import stage_options
from advprune.config.job_names import GROUPS, command, command_name, grid_name
from advprune.config.options import Options
from advprune.distributed.environment import launched_world
from advprune.ranges import fraction
from advprune.report.data.attack_names import attack_label, threat_text
from advprune.runtime.provenance import code_version
from advprune.runtime.safe_files import read_json
from advprune.store.keys import SUGGESTED, WHERE, Node
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store
from advprune.tracking.grid_place import JOBS, GridPlace, grid_words
from advprune.tracking.logger import CURVES, Finished, Job, Logger, Loggers
from advprune.tracking.progress import JobTitle

log = logging.getLogger(__name__)
#: The longest name of a run; W&B takes 128 characters.
LONGEST = 120
#: Options that say how networks are pruned, and how they are trained.
PRUNING = ("pruner", "ratio", "compression", "search")
TRAINING = ("objective", "training", "finetune", "select")


@contextmanager
def job_logger(
    options: Options, plan: Plan, output: Path, shown: dict[str, str]
) -> Iterator[Logger]:
    """Open the job's logger, and close it whatever happens; only rank 0 has one.

    Args:
        options: of the job.
        plan: of the job.
        output: the job's folder.
        shown: names of the groups' members that have a part in the network, see ``described``.

    Yields:
        The logger.

    Raises:
        UserError: if it needs a package that is not installed.
    """
    writes = launched_world()[0] == 0
    logger = Loggers(logger.build() for logger in options.loggers if writes)
    failed = True
    try:
        logger.open(_job(options, plan, output, shown))
        yield logger
        failed = False
    finally:
        logger.close(failed=failed)


def names(plan: Plan) -> dict[str, str]:
    """Return the name of each stage, by key.

    It is its kind, with ``source_`` before those of a transfer attack's source, and
    ``evaluated_dense`` for the parent's evaluation.
    """
    line = {stage.key for stage in [plan.final, *plan.final.line]}
    named = {
        stage.key: stage.kind if stage.key in line else f"source_{stage.kind}"
        for stage in plan.stages
    }
    return named | {plan.evaluated_dense.key: "evaluated_dense", plan.evaluated.key: "evaluated"}


def finished_stages(plan: Plan, store: Store) -> list[Finished]:
    """Return the plan's stages, which are all finished."""
    named = names(plan)
    return [Finished(named[s.key], store.folder(s), store.result(s)) for s in plan.stages]


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
    """Return what loggers are told of a job before anything is made."""
    subject, where = _subject(options, plan, shown), _where(options, shown)
    return Job(
        id=plan.evaluated.key,
        name=" ".join([*subject, "·", *where])[:LONGEST],
        group=grid_name(output),
        config=_config(options, plan, shown) | {"output": str(output)},
        output=output,
        kind=command_name(),
        tags=[word[:64] for word in (*subject, *where, *options.tags)],
        shared=options.store.parent,
        stages=list(dict.fromkeys(names(plan).values())),
    )


def _subject(options: Options, plan: Plan, shown: dict[str, str]) -> list[str]:
    """Return what made the network: its pruner and ratio, or its file."""
    ratio = used(options.node, plan).get("ratio")
    pruner = shown.get("pruner") or file_of(plan.dense) or "dense"
    return [pruner] if ratio is None or "pruner" not in shown else [pruner, f"{ratio:g}"]


def _where(options: Options, shown: dict[str, str]) -> list[str]:
    """Return what it is attacked by, and on what: the attack, its ball, the data, the seed."""
    threat, ball = options.evaluation_threat, list[str]()
    eps = threat.node.get("eps")
    if options.attack.perturbation is None and eps is not None:
        ball = [threat_text({"norm": threat.name.lower(), "eps": fraction(eps)})]
    return [shown["attack"], *ball, shown["model"], shown["dataset"], f"seed {options.seed}"]


def _config(options: Options, plan: Plan, shown: dict[str, str]) -> dict[str, Any]:
    """Return the options that had a part in the network, and facts to filter jobs by."""
    words, named, threat = used(options.node, plan), names(plan), options.evaluation_threat
    read = {name: value for name, value in words.items() if name not in ("logger", "store")}
    dataset = {name: value for name, value in words["dataset"].items() if name not in SUGGESTED}
    return {
        **shown,
        "ratio": words.get("ratio"),
        "weights": file_of(plan.dense),
        "seed": options.seed,
        "eps": threat.node.get("eps"),
        "norm": threat.name.lower(),
        "options": _plain(read | {"dataset": dataset}),
        "keys": {named[stage.key]: stage.key for stage in plan.stages},
        "final": named[plan.final.key],
        "code": code_version(),
        "command": command(),
        "host": socket.gethostname(),
        "python": platform.python_version(),
    }


def title_of(record: Node, output: Path) -> JobTitle:
    """Return the title of a job: its pruner, ratio and seed, and what else its grid varies.

    Args:
        record: of the job as it begins: ``names``, ``overrides``, ``number``, ``ratio``, ``seed``.
        output: the job's folder, which lies in that of its grid.
    """
    folder = next((folder for folder in output.parents[:2] if (folder / JOBS).exists()), None)
    jobs, shared = (1, set()) if folder is None else grid_words(folder)
    pruner = record["names"].get("pruner", "dense").split(" ")[0]
    ratio = record["ratio"] if "pruner" in record["names"] else None
    subject = pruner if ratio is None else f"{pruner} {ratio:g}"
    varied = _varied(record["overrides"], shared) if jobs > 1 else []
    words = [subject, *varied, f"seed {record['seed']}"]
    grid = None if folder is None else GridPlace(folder, jobs, record["number"])
    return JobTitle(", ".join(words), grid)


def _varied(overrides: list[str], shared: set[str]) -> list[str]:
    """Return the words that not all jobs of a grid share; of a group, its member alone."""
    varied = [word.lstrip("+").partition("=") for word in overrides if word not in shared]
    return [
        value if name in GROUPS else f"{name}={value}"
        for name, _, value in varied
        if name not in ("pruner", "ratio", "seed")
    ]


def _plain(value: object) -> Any:
    """Return the options without paths of this machine."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items() if name not in WHERE}
    return value


def described(names: dict[str, str], plan: Plan) -> dict[str, str]:
    """Return the chosen members of the groups with a part in the network, and the attack's name."""
    line = plan.final.line
    unused = {"pruner"} if not _pruned(line) else set()
    unused |= set() if _trained(line) else {"objective"}
    attack = attack_label(plan.evaluated.record, names["attack"].split(" ")[0])
    used_names = {group: name for group, name in names.items() if group not in unused}
    return used_names | ({} if attack is None else {"attack": attack})


def used(options: Node, plan: Plan) -> dict[str, Any]:
    """Return the options without those that had no part in the network."""
    line = plan.final.line
    unused = [*(() if _pruned(line) else PRUNING), *(() if _trained(line) else TRAINING)]
    return {name: value for name, value in options.items() if name not in unused}


def before_planning(names: dict[str, str], checkpoint: str | None) -> dict[str, str]:
    """Return the names before the stages are known; of a file's network, without its makers."""
    return (
        names
        if checkpoint is None
        else {k: v for k, v in names.items() if k not in ("pruner", "objective")}
    )


def file_of(stage: Stage[Any]) -> str | None:
    """Return the file from which a stage's root was read; None if it was trained here."""
    weights = stage.line[0].options.weights
    return None if weights is None else weights.label


def _pruned(line: Iterable[Stage[Any]]) -> bool:
    return any(stage.kind == "pruned" for stage in line)


def _trained(line: Iterable[Stage[Any]]) -> bool:
    return any(
        stage.options.training is not None and stage.options.training.recipe is not None
        for stage in line
        if not isinstance(stage.options, stage_options.Evaluated)
    )
