"""Declare what a command's words may be: the root of its options, and the groups of ``conf/``.

Hydra refuses ``ratio=99%`` by the root.
"""

from dataclasses import dataclass, field, is_dataclass, make_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le, Lt
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from advprune.config.groups import hints
from advprune.modules.recipe import Recipe
from advprune.range_errors import Hint
from advprune.ranges import Seed


def _unfrozen(declared: Any) -> Any:
    """Return a dataclass of the same options, for Hydra, which cannot fill in a frozen one."""
    options: list[Any] = []
    for name, hint in hints(declared).items():
        if is_dataclass(hint):
            inner = _unfrozen(hint)
            options.append((name, inner, field(default_factory=inner)))
        else:
            options.append((name, hint, vars(declared)[name]))
    return make_dataclass(declared.__name__, options)


if TYPE_CHECKING:
    Phase = Recipe
else:
    Phase = _unfrozen(Recipe)


@dataclass
class TrainOptions:
    """Declare the root of ``train.py``."""

    seed: Seed = 0
    source: str | None = None
    source_seed: Seed | None = None
    source_model: Any = None
    store: str = "multirun/stages"
    report: bool = True
    debug: str | None = None
    tags: list[str] = field(default_factory=list)
    training: Phase = field(default_factory=Phase)
    search: Phase = field(default_factory=Phase)
    finetune: Phase = field(default_factory=Phase)
    select: Any = None
    dataset: Any = None
    model: Any = None
    objective: Any = None
    threat: Any = None
    quantizer: Any = None
    attack: Any = None
    trainer: Any = None
    logger: Any = None


@dataclass
class PruneOptions(TrainOptions):
    """Declare the root of ``prune.py``."""

    ratio: Annotated[float, Ge(0), Lt(1), Hint("ratio is the share of weights removed")] | None = (
        0.99
    )
    compression: Annotated[float, Ge(1), Le(1e9)] | None = None
    dense: str | None = None
    layout: str | None = None
    pruner: Any = None
    sizes: bool = False
    export: str | None = None


@dataclass
class AttackOptions(PruneOptions):
    """Declare the root of ``attack.py``."""

    checkpoint: str | None = None
    stage: str | None = None


#: Files that the members of a group start from, and that are no members.
PARTIAL = {("attack", "frame"), ("pruner", "base")}
COMMANDS = {"train": TrainOptions, "prune": PruneOptions, "attack": AttackOptions}


def annotation_of(command: str, name: str) -> Any:
    """Return the annotation of a root option, by its dotted name; None if it has none."""
    schema: Any = COMMANDS[command]
    for part in name.split("."):
        schema = hints(schema).get(part) if is_dataclass(schema) else None  # type: ignore[arg-type]
    return None if schema is None or is_dataclass(schema) or schema is Any else schema


def register() -> None:
    """Register the schemas and ``${if:…}`` with Hydra; scripts call it before they compose."""
    OmegaConf.register_new_resolver(
        "if", lambda given, value: value if given else None, replace=True
    )
    for command, schema in COMMANDS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)


@dataclass(frozen=True)
class Vocabulary:
    """Know the groups and members in some folders of configuration.

    Attributes:
        folders: ``conf/``, and what ``--config-dir`` adds.
        command: ``train``, ``prune`` or ``attack``.
    """

    folders: tuple[Path, ...]
    command: str

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Return each group's members, without ``hydra``'s, to which other packages may add."""
        groups: dict[str, set[str]] = {}
        for folder in self.folders:
            for path in folder.rglob("*.yaml"):
                group = path.parent.relative_to(folder).as_posix()
                if (
                    group != "."
                    and not group.startswith("hydra")
                    and (group, path.stem) not in PARTIAL
                ):
                    groups.setdefault(group, set()).add(path.stem)
        return {group: sorted(members) for group, members in sorted(groups.items())}

    @property
    def usable_groups(self) -> dict[str, list[str]]:
        """Return the groups that this command has: train.py prunes nothing."""
        pruning = "pruner" if self.command == "train" else "-"
        return {
            group: members
            for group, members in self.groups.items()
            if group.split("/")[0] != pruning
        }
