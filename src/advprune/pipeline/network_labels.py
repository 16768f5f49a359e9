"""Select the words of a command that have a part in the network that it evaluates.

``attack.py checkpoint=FILE`` has a pruner, a ratio and an objective like every command, and none of
them made the file. The stages that made the network say which words count.
"""

from pathlib import Path
from typing import Any

from advprune.config import stage_options
from advprune.report.data.attack_names import attack_label
from advprune.store.stage import Plan, Stage

#: Options that say how networks are pruned, and how they are trained.
PRUNING = ("pruner", "ratio", "compression", "search")
TRAINING = ("objective", "training", "finetune", "select")


def described(names: dict[str, str], plan: Plan) -> dict[str, str]:
    """Return the chosen members of the groups with a part in the network, and the attack's name."""
    line = plan.final.line()
    unused = {"pruner"} if not _pruned(line) else set()
    unused |= set() if _trained(line) else {"objective"}
    attack = attack_label(plan.evaluated.record, names["attack"].split(" ")[0])
    used_names = {group: name for group, name in names.items() if group not in unused}
    return used_names | ({} if attack is None else {"attack": attack})


def used(options: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Return the options without those that had no part in the network."""
    line = plan.final.line()
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
    weights = stage.line()[0].options.weights
    return None if weights is None else Path(weights.path).name


def _pruned(line: list[Stage[Any]]) -> bool:
    return any(stage.kind == "pruned" for stage in line)


def _trained(line: list[Stage[Any]]) -> bool:
    return any(
        stage.options.training is not None and stage.options.training.recipe is not None
        for stage in line
        if not isinstance(stage.options, stage_options.Evaluated)
    )
