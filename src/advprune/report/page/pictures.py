"""Choose the pictures of attacked images that go into the page, the best networks' first."""

import base64
from pathlib import Path

from advprune.report.data.row import Row
from advprune.report.data.runs import Run

PICTURE = "examples.png"
#: Bytes of all pictures of a page; of the rows that find no room, the page links to the file.
ROOM = 300_000


def pictures(rows: list[Row], runs: dict[str, Run], room: int = ROOM) -> dict[str, str]:
    """Return pictures in base64, by the key of the evaluation: one a row, of its first seed.

    Args:
        rows: of the leaderboard; those of weaker attacks come last.
        runs: by the key of the evaluation.
        room: bytes of all together, at most.
    """
    order = sorted(rows, key=lambda row: (bool(row.get("weaker")), row.get("place") or 0))
    chosen: dict[str, str] = {}
    for key in (next(iter(row["runs"].values())) for row in order if row["runs"]):
        path = _picture(runs.get(key))
        if path is not None and path.stat().st_size <= room:
            room -= path.stat().st_size
            chosen[key] = base64.b64encode(path.read_bytes()).decode()
    return chosen


def _picture(run: Run | None) -> Path | None:
    path = None if run is None else run.evaluated.folder / PICTURE
    return path if path is not None and path.is_file() and not path.is_symlink() else None
