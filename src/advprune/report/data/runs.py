"""Hold a finished stage of the store, and an evaluation with all the stages behind it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from advprune.store import keys


@dataclass(frozen=True)
class StoredStage:
    """One finished stage: its resolved options, its result, and its ``config.yaml`` as text."""

    kind: str
    key: str
    folder: Path
    options: dict[str, Any]
    result: dict[str, Any]
    config: str

    @cached_property
    def is_current(self) -> bool:
        """Tell whether today's code would give this stage the key that it has."""
        options = {name: value for name, value in self.options.items() if name != "stage"}
        if "examples" in self.result:
            options["examples"] = self.result["examples"]
        elif "target_acc" in self.result:
            # older results of transfer attacks do not name their examples, which are in the key
            return True
        return self.key == keys.key(self.kind, options, self.result["parent"])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Return the options that decide the result, without the seed and what takes its value."""
        return keys.identity(self.kind, _without_seed(self.options, self.options.get("seed")))


@dataclass(frozen=True)
class Run:
    """One evaluation with the stages behind it.

    Attributes:
        line: the stages from dense to evaluated, in order.
        source: of an evaluation on another network's examples, the stages behind these.
    """

    line: tuple[StoredStage, ...]
    source: "tuple[StoredStage, ...] | None" = None

    def stage(self, kind: str) -> StoredStage | None:
        """Return the stage of this kind; None if there is none."""
        return next((stage for stage in self.line if stage.kind == kind), None)

    @property
    def dense(self) -> StoredStage:
        """Return the unpruned parent."""
        return self.line[0]

    @property
    def final(self) -> StoredStage:
        """Return the stage whose network was attacked."""
        return self.line[-2]

    @property
    def evaluated(self) -> StoredStage:
        """Return the evaluation itself."""
        return self.line[-1]

    @property
    def seed(self) -> int:
        """Return the evaluation's seed, which is the job's."""
        return int(self.evaluated.options["seed"])

    @cached_property
    def identity(self) -> str:
        """Return a text that is equal for runs that differ in their seed alone."""
        lines = [*self.line, *(self.source or ())]
        return json.dumps([(stage.kind, stage.identity) for stage in lines], sort_keys=True)


def _without_seed(options: object, seed: int | None) -> Any:
    if not isinstance(options, dict):
        return options
    return {k: _without_seed(v, seed) for k, v in options.items() if k != "seed" or v != seed}
