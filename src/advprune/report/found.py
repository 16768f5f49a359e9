"""What lies in a store: its finished stages, and each evaluation with all it was made from. No log is read.

A stage that cannot be read is named and left out; the others are untouched.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from advprune import keys

COMPLETE = "complete"
#: Kinds of stage that can be the parent of another.
PARENTS = ("dense", "pruned", "finetuned", "quantized")


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


class Reader:
    """Reads each stage of a store once; ``problems`` has a sentence for each that could not be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.older = 0
        self._stages: dict[tuple[str, str], Found | None] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._kinds = {key: kind for kind in PARENTS for key in finished(root / kind)}
        self._examples = set(finished(root / "examples"))

    def runs(self) -> list[Run]:
        """Every finished evaluation whose stages can be read and are of today's recipe, in the order of their keys.

        ``older`` counts the others: code has changed since, and the same options give something else now.
        """
        found = [run for key in finished(self.root / "evaluated") if (run := self._run(key)) is not None]
        current = [run for run in found if all(stage.is_current for stage in run.line)]
        self.older = len(found) - len(current)
        return current

    def _run(self, key: str) -> Run | None:
        line = self._line("evaluated", key)
        if line is None:
            return None
        examples = line[-1].result.get("examples")
        source = self._line("examples", examples) if examples in self._examples else None
        return Run(line, source)

    def _line(self, kind: str, key: str) -> tuple[Found, ...] | None:
        stage = self._stage(kind, key)
        if stage is None:
            return None
        parent = stage.result["parent"]
        if parent is None:
            return (stage,)
        if parent not in self._kinds:
            self.problems.append(
                f"{stage.folder} was made from stage {parent}, which is not in the store: left out; "
                "give its command again"
            )
            return None
        before = self._line(self._kinds[parent], parent)
        return None if before is None else (*before, stage)

    def _stage(self, kind: str, key: str) -> Found | None:
        if (kind, key) not in self._stages:
            self._stages[kind, key] = self._read(kind, self.root / kind / key)
        return self._stages[kind, key]

    def _read(self, kind: str, folder: Path) -> Found | None:
        result = self._parsed(folder / "result.json", _facts)
        text = self._parsed(folder / "config.yaml", str)
        if result is None or text is None:
            return None
        if text not in self._options:  # many stages share one: parsing is what takes the time
            options = self._parsed(folder / "config.yaml", lambda said: yaml.load(said, Loader=LOADER))
            if not isinstance(options, dict):
                return None
            self._options[text] = options
        return Found(kind, folder.name, folder, self._options[text], result, text)

    def _parsed(self, path: Path, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(path.read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            self.problems.append(
                f"{path} cannot be read ({reason}): left out; delete its folder and give its command again"
            )
            return None


def _without_seed(options: Any, seed: int | None) -> Any:
    if not isinstance(options, dict):
        return options
    return {k: _without_seed(v, seed) for k, v in options.items() if k != "seed" or v != seed}


def _facts(text: str) -> dict[str, Any]:
    """A stage's result.

    Raises:
        ValueError: if it is not JSON, or not what a stage writes.
    """
    facts = json.loads(text)
    if not isinstance(facts, dict) or "parent" not in facts:
        raise ValueError("it names no parent stage")
    return facts


#: libyaml's where it was built in: ten times as fast, the same answers. Neither makes anything but plain values.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def finished(folder: Path) -> list[str]:
    """Keys of the finished stages in a folder of the store."""
    return sorted(path.parent.name for path in folder.glob(f"*/{COMPLETE}"))
