"""Hold what was written as a report, and what its reader must know."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class ReportSummary:
    """Counts, and what a reader must know.

    Attributes:
        folder: where the report lies.
        runs: number of evaluations in it.
        compared: number of comparisons in it.
        problems: a sentence for each file that was left out, and why.
        left_out: a sentence for each kind of plot that has nothing to show.
    """

    folder: Path
    runs: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
