"""Draw lines at the foot of a terminal, while what is printed and logged appears above them."""

import logging
import sys
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

#: How often a terminal is drawn, in a second.
DRAWN = 4
#: Characters of a bar, and of a terminal that is too narrow for one.
BAR, NARROW = 16, 100


def room(width: int) -> int:
    """Return how many characters of a line fit into a terminal, beside the bar."""
    return width if width < NARROW else width - BAR - 1


def with_bar(line: str, share: float, width: int) -> RenderableType:
    """Return a line with a bar before it, cut to the width of the terminal.

    Args:
        line: of text.
        share: that is done, in [0, 1].
        width: of the terminal, in characters.
    """
    text = Text(line, no_wrap=True, overflow="ellipsis")
    if width < NARROW:
        return Group(text)
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_row(ProgressBar(1.0, share, width=BAR), text)
    return table


class Foot:
    """Draw what ``drawn`` returns, some times a second, from a thread of its own.

    Args:
        drawn: width of the terminal -> what to draw.
        console: of the terminal.
    """

    def __init__(self, drawn: Callable[[int], RenderableType], console: Console) -> None:
        self.live = Live(
            get_renderable=lambda: drawn(console.width),
            console=console,
            refresh_per_second=DRAWN,
            transient=True,
        )
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def open(self) -> None:
        """Begin to draw."""
        before = (sys.stdout, sys.stderr)
        self.live.start()  # from here on, what is printed goes through it
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in before:
                self._moved.append((handler, handler.stream))
                handler.setStream(sys.stdout if handler.stream is before[0] else sys.stderr)

    def close(self) -> None:
        """Stop drawing; nothing of it is left on the terminal."""
        self.live.stop()
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._moved = []
