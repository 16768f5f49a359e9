"""Describe stages and plans as values: what is made, from what, under which key.

There is no torch here, so that the store can be asked at once.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from advprune.store.keys import key
from advprune.store.signatures import bound

#: What a data set is given by the job, and no option of its own need say.
JOBS = frozenset({"seed", "batch_size", "val_images", "repeats"})


class StageOptions(Protocol):
    """Hold the options that decide a stage's result; see ``config/stage_options.py``."""

    @property
    def node(self) -> dict[str, Any]:
        """Return them as plain values."""


T = TypeVar("T", bound=StageOptions, covariant=True)


@dataclass(frozen=True)
class Stage(Generic[T]):
    """Describe one cacheable step of a job.

    Attributes:
        kind: ``dense``, ``scores``, ``pruned``, ``finetuned``, ``quantized``, ``evaluated`` or
            ``examples``.
        options: that decide the result.
        parent: the stage that it is made from; None at the root.
        examples: of a transfer attack, the stage whose examples are evaluated.
        scores: of a network pruned by a criterion that looks at images, the stage that holds the
            scores for any ratio. Only while this stage is made: it is neither in the key nor in
            the line, for the options here say all that is there.
    """

    kind: str
    options: T
    parent: "Stage[Any] | None" = None
    examples: "Stage[Any] | None" = None
    scores: "Stage[Any] | None" = None

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return the options as the store writes them.

        They hold every argument that something is called with: defaults are filled in.
        """
        given = self.options.node
        record: dict[str, Any] = bound(given)
        if "dataset" in record:  # what the job gives it is in the stage's own options
            jobs = JOBS - given["dataset"].keys()
            record["dataset"] = {n: v for n, v in record["dataset"].items() if n not in jobs}
        return record

    @cached_property
    def key(self) -> str:
        """Return the name of the stage's folder; see ``store/keys.py``."""
        made_with = {"examples": self.examples.key} if self.examples else {}
        return key(self.kind, self.record | made_with, self.parent.key if self.parent else None)

    @cached_property
    def line(self) -> "tuple[Stage[Any], ...]":
        """Return all stages that this one is made from, earliest first, each once, and itself."""
        before = [stage.line for stage in (self.parent, self.examples) if stage is not None]
        return tuple({stage.key: stage for line in [*before, (self,)] for stage in line}.values())


@dataclass(frozen=True)
class Plan:
    """List the stages that one job needs.

    Attributes:
        dense: the unpruned parent.
        final: the network that is attacked; of ``train.py`` the same as ``dense``.
        evaluated_dense: the parent's evaluation.
        evaluated: the evaluation of ``final``.
    """

    dense: Stage[Any]
    final: Stage[Any]
    evaluated_dense: Stage[Any]
    evaluated: Stage[Any]

    @cached_property
    def stages(self) -> tuple[Stage[Any], ...]:
        """Return all stages in the order in which they are made, each once."""
        chain = self.evaluated_dense.line + self.evaluated.line
        return tuple({stage.key: stage for stage in chain}.values())
