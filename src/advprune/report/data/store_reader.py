"""Read what lies in a store: its finished stages, and each evaluation with all it was made from. No log is read.

Every stage is held against its mark first. One that is damaged, changed since or cannot be read is
named and left out, with what was made from it; the others are untouched.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from advprune.report.data.runs import Found, Run
from advprune.report.data.stage_files import options_in, result_in
from advprune.store.checksums import MARK, find_damage, is_complete

#: Kinds of stage that can be the parent of another.
PARENTS = ("dense", "pruned", "finetuned", "quantized")
#: Large files, which the report does not read: their sizes are compared with the mark, and not
#: their checksums.
UNREAD = ("*.safetensors", "*.ckpt", "*.pt")
CURE = "left out; delete its folder and give its command again"
OLDER = (
    "{} evaluations are not reported: their keys are not those that this code gives to their options, which it changed "
    "the meaning of since; their commands make them anew: {}"
)
UNFINISHED = "{} evaluations are not finished, or lost their mark: their commands finish them: {}"


class Reader:
    """Read each stage of a store once; ``problems`` has a sentence for each that is left out, and why."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self._stages: dict[tuple[str, str], Found | None] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._kinds = {key: kind for kind in PARENTS for key in finished(root / kind)}
        self._examples = set(finished(root / "examples"))

    def runs(self) -> list[Run]:
        """Every finished evaluation whose stages can be read and are of today's recipe, in the order of their keys."""
        found = [
            run for key in finished(self.root / "evaluated") if (run := self._run(key)) is not None
        ]
        current = [run for run in found if all(map(self._is_current, run.line))]
        older = sorted(
            {run.evaluated.key for run in found} - {run.evaluated.key for run in current}
        )
        begun = sorted(
            path.parent.name
            for path in (self.root / "evaluated").glob("*/config.yaml")
            if not is_complete(path.parent)
        )
        self.problems += [
            said.format(len(keys), some(keys))
            for said, keys in ((OLDER, older), (UNFINISHED, begun))
            if keys
        ]
        return current

    def _is_current(self, stage: Found) -> bool:
        try:
            return stage.is_current
        except (ValueError, TypeError):  # options that no key can be made of are nobody's today
            return False

    def _run(self, key: str) -> Run | None:
        line = self._line("evaluated", key)
        if line is None:
            return None
        if len(line) < 2:
            self.problems.append(f"{line[0].folder} names no network that it evaluated: {CURE}")
            return None
        examples = line[-1].result.get("examples")
        source = self._line("examples", examples) if examples in self._examples else None
        return Run(line, source)

    def _line(self, kind: str, key: str) -> tuple[Found, ...] | None:
        """The stage and all it was made from, first things first; None, and a problem, if one of them is not there."""
        line: list[Found] = []
        while True:
            stage = self._stage(kind, key)
            if stage is None:
                if line:
                    self.problems.append(
                        f"{line[-1].folder} was made from {kind} {key}, which is left out: so is it"
                    )
                return None
            if any(stage.key == other.key for other in line):
                self.problems.append(
                    f"{stage.folder} was made, so its result.json says, from itself: {CURE}"
                )
                return None
            line.insert(0, stage)
            parent = stage.result["parent"]
            if parent is None:
                return tuple(line)
            if parent not in self._kinds:
                self.problems.append(
                    f"{stage.folder} was made from stage {parent}, which is not in the store: left out; "
                    "give its command again"
                )
                return None
            kind, key = self._kinds[parent], parent

    def _stage(self, kind: str, key: str) -> Found | None:
        if (kind, key) not in self._stages:
            self._stages[kind, key] = self._read(kind, self.root / kind / key)
        return self._stages[kind, key]

    def _read(self, kind: str, folder: Path) -> Found | None:
        large = [path.name for pattern in UNREAD for path in folder.glob(pattern)]
        wrong = find_damage(folder, read=True, unread=large)
        if wrong:
            self.problems.append(f"{wrong}: {CURE}")
            return None
        result = self._parsed(folder / "result.json", lambda text: result_in(text, kind))
        text = self._parsed(folder / "config.yaml", str)
        if result is None or text is None:
            return None
        if text not in self._options:  # many stages share one: parsing is what takes the time
            options = self._parsed(folder / "config.yaml", options_in)
            if options is None:
                return None
            self._options[text] = options
        return Found(kind, folder.name, folder, self._options[text], result, text)

    def _parsed(self, path: Path, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(path.read_text())
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read ({str(error).splitlines()[0]}): {CURE}")
            return None


def some(names: list[str], most: int = 12) -> str:
    """Name a few of many."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def finished(folder: Path) -> list[str]:
    """List the keys of the finished stages in a folder of the store."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MARK}"))
