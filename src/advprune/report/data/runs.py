"""What the report knows of a finished stage, and of an evaluation with all the stages it was made from."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from advprune.store import keys


@dataclass(frozen=True)
class Found:
    """One finished stage: its resolved options, what it measured, and its ``config.yaml`` as text."""

    kind: str
    key: str
    folder: Path
    options: dict[str, Any]
    result: dict[str, Any]
    config: str

    @cached_property
    def is_current(self) -> bool:
        """Whether the code of today would find it: its key is that of its options and of today's recipe numbers."""
        own = {name: value for name, value in self.options.items() if name != "stage"}
        if "examples" in self.result:
            own["examples"] = self.result["examples"]
        elif "target_acc" in self.result:
            return True  # made before a transfer's result named its examples: its key cannot be told from here
        return self.key == keys.key(self.kind, own, self.result["parent"])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The options that decide the result, the seed aside, and whatever takes its value from it."""
        return keys.identity(self.kind, _without_seed(self.options, self.options.get("seed")))


@dataclass(frozen=True)
class Run:
    """One evaluation: the line of stages it was made from, dense first and itself last; whose examples it judged."""

    line: tuple[Found, ...]
    source: "tuple[Found, ...] | None" = None

    def stage(self, kind: str) -> Found | None:
        """The stage of this kind; None if the line has none."""
        return next((stage for stage in self.line if stage.kind == kind), None)

    @property
    def dense(self) -> Found:
        """The unpruned parent."""
        return self.line[0]

    @property
    def final(self) -> Found:
        """What was attacked."""
        return self.line[-2]

    @property
    def evaluated(self) -> Found:
        """The evaluation."""
        return self.line[-1]

    @property
    def seed(self) -> int:
        """Of the evaluation, which is the job's."""
        return int(self.evaluated.options["seed"])

    @cached_property
    def identity(self) -> str:
        """Equal for runs that differ in their seed alone."""
        lines = [*self.line, *(self.source or ())]
        return json.dumps([(stage.kind, stage.identity) for stage in lines], sort_keys=True)


def _without_seed(options: Any, seed: int | None) -> Any:
    if not isinstance(options, dict):
        return options
    return {k: _without_seed(v, seed) for k, v in options.items() if k != "seed" or v != seed}
