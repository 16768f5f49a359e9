"""Accuracy over compression, a plot a quantity; and who resists transfer at the same clean accuracy.

    python -m advprune.report.curves.compression OUT GRID/table.json …

reads the tables of grids run with attack=pgd and attack=transfer, and writes OUT/<quantity>.png and
OUT/matched.json.
"""

import io
import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from advprune.errors import UserError
from advprune.report.data.intervals import of_unpaired, over_seeds
from advprune.runtime.atomic_write import write_atomically

#: Column, of which attack, title.
QUANTITIES = (
    ("clean_acc", "transfer", "clean accuracy"),
    ("robust_acc", "pgd", "white-box accuracy (PGD)"),
    ("target_acc", "transfer", "accuracy on the dense parent's examples"),
    ("transfer_rate", "transfer", "wrong where the source is fooled (both clean-right)"),
)
#: strategy -> compression -> seed -> quantity -> share, and the two ends of its interval over the
#: images
Curves = dict[str, dict[float, dict[int, dict[str, float]]]]
ENDS = ("_low", "_high")


def strategy(row: dict[str, Any]) -> str:
    """The pruner with its options, as the table names it."""
    return str(row["pruner"])


def curves(rows: Iterable[dict[str, Any]]) -> Curves:
    """Sort the jobs' rows by strategy, compression and seed; the attacks of one network come together."""
    found: Curves = {}
    for row in rows:
        point = found.setdefault(strategy(row), {}).setdefault(round(row["compression"], 1), {})
        kind = "transfer" if row.get("source") else "pgd"
        own = point.setdefault(row["seed"], {})
        for name in (
            name for name, of, _ in QUANTITIES if of == kind and row.get(name) is not None
        ):
            bounds = zip(ENDS, row[f"{name}_interval"], strict=True)
            own |= {name: row[name]} | {f"{name}{end}": bound for end, bound in bounds}
    return found


def interpolated(points: list[tuple[float, float]], x: float) -> float | None:
    """The line through ``points`` (x, y) at ``x``; None outside them."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= x <= x1:
            return y0 if x1 == x0 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return None


def matched(found: Curves, ours: str) -> list[dict[str, Any]]:
    """How much more often ``ours`` withstands the parent's examples than each rival does at the same clean accuracy.

    Per compression and seed, the rival's accuracy on the parent's examples is read off the line
    through its own (clean, transferred) points of that seed, where the clean accuracy of ``ours``
    is among them.

    Returns:
        A row each: rival, compression, clean accuracy, difference (in shares), its interval over
            images and seeds, and
        how many seeds.
    """
    told = []
    for rival in found:
        if rival == ours:
            continue
        for compression, seeds in sorted(found[ours].items()):
            differences, bounds, clean = [], [], []
            for seed, own in seeds.items():
                theirs = [at[seed] for at in found[rival].values() if seed in at]
                read = [
                    interpolated(
                        [(at["clean_acc"], at[f"target_acc{end}"]) for at in theirs],
                        own["clean_acc"],
                    )
                    for end in ("", *ENDS)
                ]
                if None not in read:
                    other, *of_other = [float(value) for value in read if value is not None]
                    of_own = [own[f"target_acc{end}"] for end in ENDS]
                    differences.append(own["target_acc"] - other)
                    bounds.append(of_unpaired(own["target_acc"], of_own, other, of_other))
                    clean.append(own["clean_acc"])
            if differences:
                interval = over_seeds(differences, bounds)
                at = {
                    "of": ours,
                    "rival": rival,
                    "compression": compression,
                    "clean_acc": mean(clean),
                }
                told.append(
                    at
                    | {
                        "difference": mean(differences),
                        "interval": interval,
                        "seeds": len(differences),
                    }
                )
    return told


def draw(found: Curves, column: str, title: str, path: Path) -> None:
    """One quantity over compression: mean over seeds, and its interval over images and seeds."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError(
            'plots need a package that is not installed: pip install "advprune[plots]"'
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.8), layout="constrained")
    for name, points in found.items():
        known = {
            c: [own for own in seeds.values() if column in own]
            for c, seeds in sorted(points.items())
        }
        known = {c: seeds for c, seeds in known.items() if seeds}
        middle = [100 * mean(own[column] for own in seeds) for seeds in known.values()]
        ends = [
            over_seeds(
                [own[column] for own in seeds],
                [[own[f"{column}{end}"] for end in ENDS] for own in seeds],
            )
            for seeds in known.values()
        ]
        spread = [
            [abs(m - 100 * end[side]) for m, end in zip(middle, ends, strict=True)]
            for side in (0, 1)
        ]
        axes.errorbar(
            list(known),
            middle,
            spread,
            marker="o",
            markersize=4,
            capsize=2,
            label=name,
            linestyle="-" if name.startswith("gap") else "--",
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="compression (original : remaining parameters)")
    axes.set_title(f"{title}, %", fontsize=10, loc="left")  # too long to stand beside the axis
    figure.legend(
        loc="outside lower center", ncols=2, fontsize=7
    )  # over the curves it would cover points
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150)
    write_atomically(path, drawn.getvalue())
    pyplot.close(figure)


def main(arguments: list[str]) -> None:
    """Read, draw, compare.

    Raises:
        UserError: if there is nothing to read.
    """
    if len(arguments) < 2:
        raise UserError("give a folder to write into and the table.json of at least one grid")
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    found = curves(row for path in arguments[1:] for row in json.loads(Path(path).read_text()))
    for column, _, title in QUANTITIES:
        draw(found, column, title, out / f"{column}.png")
    rows = [row for name in found if name.startswith("gap") for row in matched(found, name)]
    write_atomically(out / "matched.json", json.dumps({"matched": rows, "curves": found}, indent=1))
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
    main(sys.argv[1:])
