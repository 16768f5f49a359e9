"""Plot certified accuracy over the radius, a line a network, pooled over seeds.

    python -m advprune.report.curves.radius OUT GRID/table.json …

reads the radius of each image from the records of jobs run with attack=certify_smoothing, or
another certifier, and writes OUT/radius.png, OUT/radius.csv and OUT/radius.json. Give it from the
folder that the jobs were run in.
"""

import json
import sys
import textwrap
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from advprune.errors import UserError
from advprune.report.curves.certified_accuracy import Line, lines, points, titles
from advprune.report.curves.png import save, subplots
from advprune.report.table.terminal import csv_text
from advprune.runtime.safe_files import write_atomically

#: Radii of the printed table, as Cohen et al. have them.
SHOWN = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
STYLES = ("-", "--", ":", "-.")


def draw(networks: list[Line], path: Path) -> None:
    """Plot the lines: a colour a ratio, a stroke a pruner, a band for the 95 % interval."""
    title, names = titles(networks)
    rows = points(networks)
    ratios = sorted({(line.words, line.ratio) for line in networks if line.pruner}, key=str)
    pruners = sorted({line.pruner for line in networks if line.pruner})
    figure, axes = subplots(7.2, 4.6)
    for line in networks:
        points_of_line = [row for row in rows if row["line"] == names[id(line)]]
        look: dict[str, Any] = {"color": "black", "linestyle": "-"}
        if line.pruner:
            look = {
                "color": f"C{ratios.index((line.words, line.ratio)) % 10}",
                "linestyle": STYLES[pruners.index(line.pruner) % len(STYLES)],
            }
        radii = [row["radius"] for row in points_of_line]
        axes.plot(
            radii,
            [row["certified_acc"] for row in points_of_line],
            label=names[id(line)],
            linewidth=1.5,
            **look,
        )
        ends = ([row["low"] for row in points_of_line], [row["high"] for row in points_of_line])
        axes.fill_between(radii, *ends, color=look["color"], alpha=0.12, linewidth=0)
    axes.set(xlabel=f"radius ({networks[0].words[-1]})", ylabel="certified accuracy", ylim=(0, 1))
    axes.set_title(textwrap.fill(title, 95), fontsize=8)  # as wide as the axes at this size
    axes.set_xlim(0, max(row["radius"] for row in rows))
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=7)
    save(figure, path)


def show(networks: list[Line]) -> None:
    """Print each line at a few radii, with its abstentions and its average certified radius."""
    title, names = titles(networks)
    last = max(max(radii) for line in networks for radii in line.radii.values())
    radii = [radius for radius in SHOWN if radius <= last]
    table = Table(
        "network",
        *(f"{radius:g}" for radius in radii),
        "mean radius",
        "abstains",
        "n",
        title=f"{title}; certified accuracy in % at a radius",
        title_justify="left",
    )
    for line in networks:
        images = len(next(iter(line.radii.values())))
        table.add_row(
            names[id(line)],
            *(f"{100 * mean(line.certified(radius)):.1f}" for radius in radii),
            f"{line.mean_radius():.3f}",
            f"{100 * mean(line.abstained.values()):.1f}",
            f"{images}" + (f" × {len(line.radii)} seeds" if len(line.radii) > 1 else ""),
        )
    Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False).print(table)


def main(arguments: list[str]) -> None:
    """Read the tables, draw the plot, print the lines.

    Raises:
        UserError: if there is nothing to read.
    """
    if len(arguments) < 2:
        raise UserError("give a folder to write into and the table.json of at least one grid")
    out = Path(arguments[0])
    networks = lines(row for path in arguments[1:] for row in json.loads(Path(path).read_text()))
    out.mkdir(parents=True, exist_ok=True)
    rows = points(networks)
    write_atomically(out / "radius.json", json.dumps(rows, indent=1))
    write_atomically(out / "radius.csv", csv_text(rows[0], rows))
    draw(networks, out / "radius.png")
    show(networks)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
