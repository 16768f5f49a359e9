"""Estimate how long the stages that a grid has yet to make take, by those of their kind."""

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from advprune.runtime.safe_files import read_json, write_atomically

#: In a grid's folder: for each job that was launched, its words and the folders of its stages.
STAGES = "stages.json"


@dataclass
class StageTimes:
    """Know which stages a grid has to make, and how long those took that are made.

    Attributes:
        folder: of the grid.
    """

    folder: Path
    _jobs: dict[tuple[str, ...], list[Path]] = field(default_factory=dict, repr=False)
    _took: dict[Path, float] = field(default_factory=dict, repr=False)

    def work(self, ended: Collection[tuple[str, ...]], now: float) -> float | None:
        """Return the seconds that one job at a time would take for what is left; None if unknown.

        A stage takes what those of its kind took on average, and a stage that several jobs need is
        made once.

        Args:
            ended: the words of the jobs that make nothing any more.
            now: seconds since the epoch.
        """
        self._read()
        left = {path for words, paths in self._jobs.items() if words not in ended for path in paths}
        left -= self._took.keys()
        by_kind = defaultdict[str, list[float]](list)
        for path, seconds in self._took.items():
            by_kind[path.parent.name].append(seconds)
        if not left or any(path.parent.name not in by_kind for path in left):
            return None
        mean = {kind: sum(seconds) / len(seconds) for kind, seconds in by_kind.items()}
        return sum(max(mean[path.parent.name] - _spent(path, now), 0.0) for path in left)

    def _read(self) -> None:
        """Read which stages there are, once, and the times of those that were finished since."""
        if not self._jobs and (self.folder / STAGES).exists():
            self._jobs = {
                tuple(words): list(map(Path, paths))
                for words, paths in read_json(self.folder / STAGES)
            }
        for path in {path for paths in self._jobs.values() for path in paths} - self._took.keys():
            try:
                self._took[path] = float(read_json(path / "result.json")["seconds"])
            except (OSError, ValueError, KeyError):  # not made yet
                continue


def write_stages(folder: Path, jobs: dict[tuple[str, ...], list[Path]]) -> None:
    """Write into a grid's folder which stages its jobs have to make.

    Args:
        folder: of the grid.
        jobs: the folders of the stages, by the words of the job.
    """
    entries = [[list(words), list(map(str, paths))] for words, paths in jobs.items()]
    write_atomically(folder / STAGES, json.dumps(entries, indent=1))


def _spent(path: Path, now: float) -> float:
    """Return for how long a stage has been made: its options are written when it begins."""
    try:
        return max(now - (path / "config.yaml").stat().st_mtime, 0.0)
    except OSError:
        return 0.0
