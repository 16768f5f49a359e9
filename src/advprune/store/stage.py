"""Describe stages and plans as values: what is made, from what, under which key.

There is no torch here, so that the store can be asked at once.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advprune.store.keys import key
from advprune.store.signatures import bound

#: What a data set is given by the job, and no option of its own need say.
JOBS = frozenset({"seed", "batch_size", "val_images", "repeats"})


@dataclass(frozen=True)
class Stage:
    """Describe one cacheable step of a job.

    Its options hold every argument that something is called with: defaults are filled in.

    Attributes:
        kind: ``dense``, ``pruned``, ``finetuned``, ``quantized``, ``evaluated`` or ``examples``.
        options: resolved, those that decide the result.
        parent: the stage that it is made from; None at the root.
        examples: of a transfer attack, the stage whose examples are evaluated.
    """

    kind: str
    options: dict[str, Any]
    parent: "Stage | None" = None
    examples: "Stage | None" = None

    def __post_init__(self) -> None:
        options = bound(self.options)
        if "dataset" in options:  # what the job gives it is in the stage's own options
            explicit = self.options["dataset"].keys()
            data = {
                name: value
                for name, value in options["dataset"].items()
                if name in explicit or name not in JOBS
            }
            options["dataset"] = data
        object.__setattr__(self, "options", options)

    @cached_property
    def key(self) -> str:
        """Return the name of the stage's folder; see ``store/keys.py``."""
        made_with = {"examples": self.examples.key} if self.examples else {}
        return key(self.kind, self.options | made_with, self.parent.key if self.parent else None)

    def line(self) -> "list[Stage]":
        """Return all stages that this one is made from, earliest first, each once, and itself."""
        before = [stage.line() for stage in (self.parent, self.examples) if stage is not None]
        return list({stage.key: stage for line in [*before, [self]] for stage in line}.values())


@dataclass(frozen=True)
class Plan:
    """List the stages that one job needs.

    Attributes:
        dense: the unpruned parent.
        final: the network that is attacked; of ``train.py`` the same as ``dense``.
        evaluated_dense: the parent's evaluation.
        evaluated: the evaluation of ``final``.
    """

    dense: Stage
    final: Stage
    evaluated_dense: Stage
    evaluated: Stage

    def stages(self) -> list[Stage]:
        """Return all stages in the order in which they are made, each once."""
        chain = self.evaluated_dense.line() + self.evaluated.line()
        return list({stage.key: stage for stage in chain}.values())
