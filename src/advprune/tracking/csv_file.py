"""Log to ``metrics.csv`` in the job's folder, one line a number; the default logger."""

import csv
from typing import Any, TextIO

from advprune.tracking.logger import Finished, Job, Logger, Row, numbers

FILE = "metrics.csv"


class CsvFile(Logger):
    """Write the columns ``name, epoch, step, value``; a result leaves epoch and step empty.

    A line a number, because stages have different curves: ``pandas.read_csv(…).pivot(…)`` makes
    columns of them.
    """

    def __init__(self) -> None:
        self.file: TextIO | None = None
        self.writer: Any = None

    def open(self, job: Job) -> None:
        """Begin the file anew: all of the job's curves follow, those of a killed attempt too."""
        job.output.mkdir(parents=True, exist_ok=True)
        (job.output / FILE).unlink(missing_ok=True)  # a link in its place is not written through
        self.file = (job.output / FILE).open("x", newline="")
        self.writer = csv.writer(self.file)
        self._write([("name", "epoch", "step", "value")])

    def point(self, stage: str, row: Row) -> None:
        """Write a line for each number."""
        at = (row["epoch"], row["step"])
        self._write(
            (f"{stage}/{name}", *at, value)
            for name, value in row.items()
            if name not in ("epoch", "step")
        )

    def finished(self, done: Finished) -> None:
        """Write per-layer sparsity."""
        self._write(
            (f"sparsity/{done.stage}/{name}", "", "", share) for name, share in done.layers.items()
        )

    def result(self, row: dict[str, Any], stages: list[Finished]) -> None:
        """Write the numbers of the table."""
        self._write((name, "", "", value) for name, value in numbers(row).items())

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def _write(self, lines: Any) -> None:
        assert self.file is not None
        self.writer.writerows(lines)
        self.file.flush()
