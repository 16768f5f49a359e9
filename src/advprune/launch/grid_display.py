"""Show a grid whose jobs run elsewhere: a line of each that is under way, and one of the grid."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.text import Text

from advprune.tracking.grid_place import GridPlace
from advprune.tracking.terminal_line import Foot

#: How many jobs under way a terminal shows, and the bytes at the end of a log that are read.
SHOWN, TAIL = 8, 4096


def say(line: str) -> None:
    """Print a line to the terminal at once."""
    print(line, flush=True)  # noqa: T201


class GridDisplay:
    """Say how a grid goes: at the foot of a terminal all the time, elsewhere when a job ends.

    Args:
        grid: that is shown; None shows nothing but what is said.
        console: of a terminal; None if there is none.
    """

    def __init__(self, grid: GridPlace | None = None, console: Console | None = None) -> None:
        self.grid, self.logs, self.held = grid, dict[str, Path](), 0
        self.foot = None if console is None or grid is None else Foot(self.drawn, console)

    @classmethod
    def here(cls, grid: GridPlace) -> Self:
        """Return the display of this process's output."""
        return cls(grid, Console() if sys.stdout.isatty() else None)

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self.foot is not None:
            self.foot.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing."""
        if self.foot is not None:
            self.foot.close()

    def begun(self, title: str, log: Path) -> None:
        """Show what a job says in its log, until it has ended."""
        self.logs[title] = log

    def ended(self, title: str, how: str) -> None:
        """Say how a job ended, and how the grid goes."""
        self.logs.pop(title, None)
        say(" · ".join([f"{title}; {how}", *([] if self.grid is None else [self.grid.summary()])]))

    def hold(self, jobs: int) -> None:
        """Show how many jobs have room, and wait for a stage that a job under way makes."""
        self.held = jobs

    def drawn(self, width: int) -> RenderableType:
        """Return the last line of each job under way, and the grid's; none is wrapped."""
        logs = list(self.logs.values())
        lines = [line for log in logs[:SHOWN] if (line := last_line(log))]
        silent, more = min(len(logs), SHOWN) - len(lines), max(len(logs) - SHOWN, 0)
        lines += [f"{silent} {'job has' if silent == 1 else 'jobs have'} not begun yet"] * bool(
            silent
        )
        lines += [f"and {more} more"] * bool(more)
        waits = "job waits" if self.held == 1 else "jobs wait"
        lines += [f"{self.held} {waits} for a stage that is being made"] * bool(self.held)
        lines += [] if self.grid is None else [self.grid.summary()]
        return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def last_line(log: Path) -> str | None:
    """Return the last line of progress in a job's log, without its time and the grid's."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - TAIL, 0), os.SEEK_SET)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:  # nothing is printed yet
        return None
    progress = [line for line in lines if line.startswith("[") and " · " in line]
    return progress[-1].partition("] ")[2].partition(" · grid ")[0] if progress else None
