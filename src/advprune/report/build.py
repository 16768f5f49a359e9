"""The report: everything that a store and its grids' tables say, as files and one page."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.report.data import records as record_files
from advprune.report.data.intervals import described
from advprune.report.data.leaderboard_rows import entries
from advprune.report.data.names import learned
from advprune.report.data.published import beside
from advprune.report.data.runs import Run
from advprune.report.data.significance import comparisons
from advprune.report.data.store_reader import Reader
from advprune.report.page.comparisons import plain, with_cells
from advprune.report.page.export import as_json, facts, latex, markdown, table
from advprune.report.page.leaderboard import rank
from advprune.report.page.render import page
from advprune.report.plots import all_plots
from advprune.report.plots.data import Material
from advprune.report.plots.style import Plot
from advprune.runtime.atomic_write import write_atomically

PAGE = "index.html"
BOARD = "leaderboard"


@dataclass
class Report:
    """What was written: where, of how many runs, and what a reader must be told."""

    folder: Path
    runs: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def tables_of(store: Path) -> list[Path]:
    """The tables of grids and jobs beside a store, in the order of their names, which are dates."""
    return sorted(
        path for kind in ("grids", "runs") for path in (store.parent / kind).glob("*/*/table.json")
    )


def build(store: Path, out: Path, tables: Iterable[Path]) -> Report:
    """Read, compare, draw, write.

    Args:
        store: folder of the stages.
        out: folder of the report; made, and its files of an earlier report replaced.
        tables: ``table.json`` of grids and jobs; they lend words, and what ``sizes=true`` measured.
            No number else.
    Raises:
        UserError: if there is no finished evaluation to report.
    """
    report = Report(out)
    reader = Reader(store)
    runs, records = _readable(reader, report)
    report.problems += reader.problems
    if not runs:
        raise UserError(_nothing(store, report.problems))
    told = [rows for path in tables if (rows := _table(path, report)) is not None]
    names = learned(runs, told)
    rows = entries(runs, names, _sizes(told))
    compared = comparisons(zip(runs, records, strict=True))
    rank(rows, compared)
    report.runs, report.compared = len(runs), len(compared)
    by_key = {run.evaluated.key: run for run in runs}
    given = Material(rows, beside(rows), by_key)
    plots, undrawn = all_plots.draw(given)
    report.left_out += undrawn
    report.problems += list(dict.fromkeys(given.problems))
    _write(report, given, with_cells(compared, rows), plots, store)
    return report


def _readable(reader: Reader, report: Report) -> tuple[list[Run], list[record_files.Verdicts]]:
    """The runs whose records say what their results say."""
    runs, records = [], []
    for run in reader.runs():
        try:
            found = record_files.read(run)
        except ValueError as error:
            report.problems.append(str(error))
            continue
        runs.append(run)
        records.append(found)
    return runs, records


def _nothing(store: Path, problems: list[str]) -> str:
    if problems:
        return f"no evaluation in {store} can be read: {problems[0]}"
    return f"there is no finished evaluation in {store}; run prune.py first, or give --store FOLDER"


def _table(path: Path, report: Report) -> list[dict[str, Any]] | None:
    try:
        rows = [
            row
            for row in json.loads(path.read_text())
            if isinstance(row["files"]["evaluated"], str)
        ]
        _sizes([rows])
        return rows
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        report.problems.append(
            f"{path} is not a table that a job wrote ({error}): its words are not used"
        )
        return None


def _sizes(tables: list[list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What ``sizes=true`` measured, by the key of the network's stage; the last measurement counts."""
    found: dict[str, dict[str, Any]] = {}
    for row in (row for rows in tables for row in rows if "sizes" in row):
        for kind, folder in row["files"].items():
            if kind != "evaluated":
                found[Path(folder).name] = row["sizes"]["dense" if kind == "dense" else "final"]
    return found


def _write(
    report: Report, given: Material, compared: list[dict[str, Any]], plots: list[Plot], store: Path
) -> None:
    out, rows = report.folder, [*given.rows, *given.published]
    for folder in (out, out / "plots"):
        if folder.is_symlink():
            where = folder.readlink()
            raise UserError(
                f"{folder} is a link to {where}: nothing is written through it; delete it, or use --out"
            )
    (out / "plots").mkdir(parents=True, exist_ok=True)
    finished, names = (
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        sorted(f"{plot.name}.svg" for plot in plots),
    )
    for name in set(_earlier(out)) - set(
        names
    ):  # of an earlier report, of what is not there any more
        (out / "plots" / Path(name).name).unlink(missing_ok=True)
    for plot in plots:
        write_atomically(out / "plots" / f"{plot.name}.svg", plot.file())
    told = {
        "finished": finished,
        "store": str(store),
        "runs": report.runs,
        "problems": report.problems,
    }
    told |= {
        "plots": names,
        "intervals": described({row["seeds"] for row in given.rows}),
        "left_out": report.left_out,
        "comparisons": plain(compared),
    }
    write_atomically(out / f"{BOARD}.json", as_json(told | facts(rows, given.runs)))
    write_atomically(out / f"{BOARD}.md", markdown(rows))
    write_atomically(out / f"{BOARD}.csv", table(rows))
    write_atomically(
        out / f"{BOARD}.tex",
        latex(rows, "Accuracy in percent on test images, with 95 % intervals."),
    )
    about = {"report": report, "store": str(store), "finished": finished, "out": out}
    write_atomically(out / PAGE, page(rows, compared, plots, given.runs, **about))


def _earlier(out: Path) -> list[str]:
    """The plots of the report that lies there."""
    try:
        return list(json.loads((out / f"{BOARD}.json").read_text())["plots"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
