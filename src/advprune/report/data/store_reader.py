"""Read the finished evaluations of a store, each with all the stages behind it. No log is read.

Every stage is checked against its manifest first. One that is damaged, was changed or cannot be
read is named and left out, with everything made from it; the others are not affected.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from advprune.report.data.runs import Run, StoredStage
from advprune.report.data.stage_files import options_in, result_in
from advprune.store.checksums import MARK, find_damage
from advprune.store.store import is_complete

#: Kinds of stage that can be the parent of another.
PARENTS = ("dense", "pruned", "finetuned", "quantized")
#: Large files, which the report does not read: of these only the size is checked.
UNREAD = ("*.safetensors", "*.ckpt", "*.pt")
CURE = "left out; delete its folder and give its command again"
OLDER = (
    "{} evaluations are not reported: this code, which has changed the meaning of options since, "
    "gives them other keys; their commands make them anew: {}"
)
UNFINISHED = "{} evaluations are not finished, or lost their mark: their commands finish them: {}"


class Reader:
    """Reads each stage of a store once.

    Attributes:
        root: folder of the store.
        problems: a sentence for each stage that is left out, and why.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self._stages: dict[tuple[str, str], StoredStage | None] = {}
        self._options: dict[str, dict[str, Any]] = {}
        self._kinds = {key: kind for kind in PARENTS for key in _finished_keys(root / kind)}
        self._examples = set(_finished_keys(root / "examples"))

    def runs(self) -> list[Run]:
        """Return the finished evaluations, in the order of their keys, made by today's recipes."""
        runs = [
            run
            for key in _finished_keys(self.root / "evaluated")
            if (run := self._run(key)) is not None
        ]
        current = [run for run in runs if all(map(self._is_current, run.line))]
        older = sorted({run.evaluated.key for run in runs} - {run.evaluated.key for run in current})
        unfinished = sorted(
            path.parent.name
            for path in (self.root / "evaluated").glob("*/config.yaml")
            if not is_complete(path.parent)
        )
        self.problems += [
            sentence.format(len(keys), _abbreviated(keys))
            for sentence, keys in ((OLDER, older), (UNFINISHED, unfinished))
            if keys
        ]
        return current

    def _is_current(self, stage: StoredStage) -> bool:
        try:
            return stage.is_current
        except (ValueError, TypeError):  # no key can be made of such options
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

    def _line(self, kind: str, key: str) -> tuple[StoredStage, ...] | None:
        """Return the stages from dense to this one; None, and a problem, if one is missing."""
        line: list[StoredStage] = []
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
                    f"{stage.folder} was made from stage {parent}, which is not in the store: "
                    "left out; give its command again"
                )
                return None
            kind, key = self._kinds[parent], parent

    def _stage(self, kind: str, key: str) -> StoredStage | None:
        if (kind, key) not in self._stages:
            self._stages[kind, key] = self._read(kind, self.root / kind / key)
        return self._stages[kind, key]

    def _read(self, kind: str, folder: Path) -> StoredStage | None:
        large = [path.name for pattern in UNREAD for path in folder.glob(pattern)]
        wrong = find_damage(folder, read=True, unread=large)
        if wrong:
            self.problems.append(f"{wrong}: {CURE}")
            return None
        result = self._parsed(folder / "result.json", lambda text: result_in(text, kind))
        text = self._parsed(folder / "config.yaml", str)
        if result is None or text is None:
            return None
        if text not in self._options:  # many stages share one, and parsing is slow
            options = self._parsed(folder / "config.yaml", options_in)
            if options is None:
                return None
            self._options[text] = options
        return StoredStage(kind, folder.name, folder, self._options[text], result, text)

    def _parsed(self, path: Path, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(path.read_text())
        except (OSError, ValueError) as error:
            self.problems.append(f"{path} cannot be read ({str(error).splitlines()[0]}): {CURE}")
            return None


def _abbreviated(names: list[str], most: int = 12) -> str:
    """Return the first of many names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _finished_keys(folder: Path) -> list[str]:
    """Return the keys of the finished stages in a folder of the store."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MARK}"))
