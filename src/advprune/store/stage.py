"""A stage and a plan as values: what is made, from what, and under which key. No torch, so that asking is quick."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advprune.store.keys import key
from advprune.store.signatures import bound

#: What a data set is given by the job, and no option of its own need say.
JOBS = frozenset({"seed", "batch_size", "val_images", "repeats"})


@dataclass(frozen=True)
class Stage:
    """One cacheable step: its kind, the resolved options that decide its result, and what it is made from.

    The options are those that things are called with: defaults that no option says are filled in.
    """

    kind: str
    options: dict[str, Any]
    parent: "Stage | None" = None
    examples: "Stage | None" = None  # that are judged, of a transfer attack

    def __post_init__(self) -> None:
        options = bound(self.options)
        if "dataset" in options:  # what the job gives it is in the stage's own options
            said = self.options["dataset"].keys()
            data = {
                name: value
                for name, value in options["dataset"].items()
                if name in said or name not in JOBS
            }
            options["dataset"] = data
        object.__setattr__(self, "options", options)

    @cached_property
    def key(self) -> str:
        """See ``store/keys.py``."""
        made_with = {"examples": self.examples.key} if self.examples else {}
        return key(self.kind, self.options | made_with, self.parent.key if self.parent else None)

    def line(self) -> "list[Stage]":
        """All it is made from, first things first and each once, and itself."""
        before = [stage.line() for stage in (self.parent, self.examples) if stage is not None]
        return list({stage.key: stage for line in [*before, [self]] for stage in line}.values())


@dataclass(frozen=True)
class Plan:
    """What one job needs. ``final`` is what is attacked, ``dense`` its unpruned parent (the same for ``train.py``)."""

    dense: Stage
    final: Stage
    evaluated_dense: Stage
    evaluated: Stage

    def stages(self) -> list[Stage]:
        """All stages in the order they are made, each once."""
        chain = self.evaluated_dense.line() + self.evaluated.line()
        return list({stage.key: stage for stage in chain}.values())
