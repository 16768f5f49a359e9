"""Draw robust accuracy against ratio from a grid, as result.svg beside its table:

    python docs/draw_result.py multirun/grids/DATE/TIME/table.json
    python docs/draw_result.py multirun/grids/DATE/TIME/table.json --out docs/result.svg    #
    README's picture

Each table.json named is read (a quoted pattern with ** is searched); jobs that differ in their seed
alone become one point with its interval, as in the table. Needs matplotlib (the dev extra). The
same numbers give the same bytes.
"""

import argparse
import json
from glob import glob
from pathlib import Path
from typing import Any

import matplotlib as mpl

from advprune.report.data.attack_names import threat_text
from advprune.report.data.intervals import pool

#: Okabe and Ito's colours, which colour-blind readers can tell apart; a marker each for those who
#: print in grey.
LOOKS = {"hydra": ("#0072B2", "o"), "magnitude": ("#D55E00", "s"), "random": ("#555555", "^")}
SPARE = [("#009E73", "D"), ("#CC79A7", "v"), ("#E69F00", "P")]


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """The pooled rows of one comparison.

    Raises:
        SystemExit: if the tables mix data sets, networks, objectives, threats or attacks.
    """
    rows = [row for path in paths for row in json.loads(path.read_text()) if row.get("pruner")]
    for name in ("dataset", "model", "objective", "attack", "norm", "eps", "images"):
        found = sorted({str(row[name]) for row in rows})
        if len(found) != 1:
            raise SystemExit(
                f"one picture is one comparison, but {name} is {' and '.join(found) or 'nowhere'}"
            )
    return pool(rows)


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    """One line a pruner, the dense parent as a band."""
    mpl.use("svg")
    mpl.rcParams |= {
        "svg.hashsalt": "advprune",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    from matplotlib import pyplot as plt

    ratios = sorted({row["ratio"] for row in rows})
    pruners = sorted(
        {row["pruner"] for row in rows}, key=lambda name: ([*LOOKS, name].index(name), name)
    )
    spare = iter(SPARE * len(pruners))
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    for index, pruner in enumerate(pruners):
        colour, marker = LOOKS.get(pruner) or next(spare)
        line = sorted(
            (row for row in rows if row["pruner"] == pruner), key=lambda row: row["ratio"]
        )
        at = [ratios.index(row["ratio"]) + 0.06 * (index - (len(pruners) - 1) / 2) for row in line]
        high = [100 * row["robust_acc"] for row in line]
        spread = [
            [100 * abs(row["robust_acc"] - row["robust_acc_interval"][side]) for row in line]
            for side in (0, 1)
        ]
        axes.errorbar(
            at,
            high,
            spread,
            color=colour,
            marker=marker,
            markersize=7,
            capsize=4,
            linewidth=2,
            label=pruner,
        )
    dense = rows[0]
    low, top = (100 * end for end in dense["dense_robust_acc_interval"])
    axes.axhspan(low, top, color="#999999", alpha=0.25, linewidth=0)
    axes.axhline(
        100 * dense["dense_robust_acc"], color="#777777", linestyle="--", label="dense parent"
    )
    axes.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
    axes.set(xlabel="ratio (share of weights removed)", ylabel="robust accuracy, %", ylim=(0, 100))
    axes.set_title(caption(dense), fontsize=10, loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(
        out, bbox_inches="tight", facecolor="white", metadata={"Date": None, "Creator": None}
    )


def caption(row: dict[str, Any]) -> str:
    """What was measured, and what the bars are."""
    several = f"mean of {row['seeds']} seeds, 95 % interval over images and seeds"
    bars = several if row["seeds"] > 1 else "one seed, 95 % interval over images"
    network = f"{row['dataset']}, {row['model']}, {row['objective']}"
    what = f"{network}; {row['attack']} {threat_text(row)}, {row['images']} images"
    return f"{what}; {bars}"


def main() -> None:
    """Read the command line, draw, say where."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", help="table.json of one or more grids")
    parser.add_argument(
        "--out", type=Path, help="the picture's file (default: result.svg beside the first table)"
    )
    given = parser.parse_args()
    found = [Path(name) for pattern in given.tables for name in sorted(glob(pattern))]  # noqa: PTH207 - absolute too
    if not found:
        raise SystemExit(
            f"no file is called {' or '.join(given.tables)}; name the table.json of a grid"
        )
    out = given.out or found[0].with_name("result.svg")
    draw(read(found), out)
    print(out)  # noqa: T201


if __name__ == "__main__":
    main()
