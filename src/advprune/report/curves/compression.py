"""Plot accuracy over compression, and compare resistance to transfer at the same clean accuracy.

    python -m advprune.report.curves.compression OUT GRID/table.json …

reads the tables of grids run with attack=pgd and attack=transfer, and writes OUT/<quantity>.png and
OUT/matched.json.
"""

import json
import sys
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from advprune.errors import UserError
from advprune.report.curves.compression_points import ENDS, QUANTITIES, Curves, curves, matched
from advprune.report.curves.png import save, subplots
from advprune.report.data.intervals import over_seeds
from advprune.report.data.row import Row
from advprune.runtime.safe_files import write_atomically


def draw(strategies: Curves, column: str, title: str, path: Path) -> None:
    """Plot one quantity over compression: the mean over seeds, and its interval."""
    figure, axes = subplots(6.4, 4.8)
    for name, by_compression in strategies.items():
        points = {
            compression: measured
            for compression, seeds in sorted(by_compression.items())
            if (measured := [point for point in seeds.values() if column in point])
        }
        middle = [100 * mean(point[column] for point in seeds) for seeds in points.values()]
        ends = [
            over_seeds(
                [point[column] for point in seeds],
                [[point[f"{column}{end}"] for end in ENDS] for point in seeds],
            )
            for seeds in points.values()
        ]
        errors = [
            [abs(m - 100 * end[side]) for m, end in zip(middle, ends, strict=True)]
            for side in (0, 1)
        ]
        line = "-" if name.startswith("gap") else "--"
        axes.errorbar(
            list(points),
            middle,
            errors,
            marker="o",
            markersize=4,
            capsize=2,
            label=name,
            linestyle=line,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="compression (original : remaining parameters)")
    axes.set_title(f"{title}, %", fontsize=10, loc="left")  # too long for the axis' label
    # outside, since over the curves it would cover points
    figure.legend(loc="outside lower center", ncols=2, fontsize=7)
    save(figure, path)


def main(arguments: list[str]) -> None:
    """Read the tables, draw the plots, print the comparison.

    Raises:
        UserError: if there is nothing to read.
    """
    if len(arguments) < 2:
        raise UserError("give a folder to write into and the table.json of at least one grid")
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    strategies = curves(row for path in arguments[1:] for row in json.loads(Path(path).read_text()))
    for column, _, title in QUANTITIES:
        draw(strategies, column, title, out / f"{column}.png")
    rows = [
        row for name in strategies if name.startswith("gap") for row in matched(strategies, name)
    ]
    document = {"matched": rows, "curves": strategies}
    write_atomically(out / "matched.json", json.dumps(document, indent=1))
    _print(rows)


def _print(rows: list[Row]) -> None:
    table = Table("of", "against", "compression", "clean", "transferred: points more", "seeds")
    for row in rows:
        interval = " [{:+.1f}, {:+.1f}]".format(*(100 * end for end in row["interval"]))
        table.add_row(
            row["of"],
            row["rival"],
            f"{row['compression']:g}",
            f"{100 * row['clean_acc']:.1f}",
            f"{100 * row['difference']:+.1f}{interval}",
            str(row["seeds"]),
        )
    Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False).print(table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
