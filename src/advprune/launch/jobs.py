"""Describe a grid's jobs as commands of their own, and record how those ended that died."""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from advprune.config.job_names import GROUPS
from advprune.launch.run_once import ONE_JOB
from advprune.launch.work import Work
from advprune.ranges import number
from advprune.runtime import safe_files
from advprune.runtime.safe_files import read_json
from advprune.tracking.grid_place import LAUNCHED, RECORD, differing, shared_words

#: Hydra's own words that are of the grid, and not of one job.
OF_THE_GRID = (
    "hydra/launcher",
    "hydra.launcher",
    "hydra/sweeper",
    "hydra.sweeper",
    "hydra.sweep",
    "hydra.run",
    "hydra.mode",
    "hydra.job.num",
)


@dataclass(frozen=True)
class Job:
    """Describe one job of a grid.

    Attributes:
        number: its place in the grid, from 0.
        overrides: its words.
        folder: its own.
        command: the script and words that run it alone.
        title: for messages.
        work: what it has to make.
    """

    number: int
    overrides: list[str]
    folder: Path
    command: list[str]
    title: str = ""
    work: Work = field(default_factory=Work)

    def record(self) -> dict[str, Any]:
        """Return what the job wrote; before that, what is known without it."""
        path = self.folder / RECORD
        return read_json(path) if path.exists() else self.announced()

    def announced(self) -> dict[str, Any]:
        """Return the job's record before it has begun."""
        words = dict(
            override.lstrip("+").split("=", 1) for override in self.overrides if "=" in override
        )
        numbers = {
            name: number(words[name]) for name in ("ratio", "seed") if _is_number(words.get(name))
        }
        names = {name: words[name] for name in GROUPS if name in words}
        return {"names": names, "overrides": self.overrides, "number": self.number, **numbers}

    @property
    def ended(self) -> bool:
        """Return whether the job wrote how it ended."""
        return bool(self.record().keys() & {"row", "failed", "given_up"})

    def died(self, reason: str) -> None:
        """Record a failure that the job could not record itself."""
        self.folder.mkdir(parents=True, exist_ok=True)
        safe_files.write_atomically(
            self.folder / RECORD, json.dumps(self.record() | {"failed": reason}, indent=1)
        )


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def job_of(config: DictConfig, number: int, overrides: Sequence[str], folder: Path) -> Job:
    """Return the job as the command that a user would type for it alone.

    It runs in its folder and prints no table of its own.

    Args:
        config: of the grid, with Hydra's own part.
        number: of the job in its grid.
        overrides: of the job, from the sweeper.
        folder: of the job.
    """
    hydra_words = [word for word in config.hydra.overrides.hydra if not _named(word, OF_THE_GRID)]
    words = [word for word in overrides if not word.lstrip("+~").startswith("hydra.")]
    hydra_words += [
        word for word in overrides if word not in words and not _named(word, OF_THE_GRID)
    ]
    places = [f"hydra.run.dir={quoted(str(folder))}", f"hydra.job.num={number}", ONE_JOB]
    flags = ["--config-name", str(config.hydra.job.config_name)]
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", str(source.path)]
    script = str(Path(sys.argv[0]).resolve())
    return Job(
        number,
        words,
        folder,
        [script, *flags, *words, *hydra_words, *places, "~hydra.callbacks.grid"],
    )


def titled(jobs: list[Job], grid: Sequence[Sequence[str]], total: int) -> list[Job]:
    """Return the jobs, each with a title of the words that not all jobs of the grid share.

    Args:
        jobs: to launch.
        grid: the words of each of its jobs, of those that are not launched, too; empty if only the
            jobs to launch are known.
        total: how many jobs the grid has.
    """
    shared = shared_words(grid or [job.overrides for job in jobs])
    return [
        replace(job, title=f"job {job.number + 1} of {total}: {differing(job.overrides, shared)}")
        for job in jobs
    ]


def _named(word: str, names: Iterable[str]) -> bool:
    name = word.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
    return any(name == other or name.startswith(f"{other}.") for other in names)


def quoted(text: str) -> str:
    """Quote a string so that Hydra's grammar takes it literally.

    A backslash is special there only before a quotation mark.
    """
    escaped = re.sub(r"(\\*)(')", r"\1\1\\\2", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def announce(jobs: list[Job], folder: Path) -> None:
    """Write the list of all jobs beside them, so that a table knows which are missing.

    Those of an earlier batch stay in the list.
    """
    path = folder / LAUNCHED
    before = read_json(path) if path.exists() else []
    records = [job.announced() | {"command": job.command} for job in jobs]
    folder.mkdir(parents=True, exist_ok=True)
    safe_files.write_atomically(path, json.dumps([*before, *records], indent=1))
