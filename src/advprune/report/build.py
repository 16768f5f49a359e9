"""Build a store's report: read its runs, compare them, draw plots, write files and a page."""

from collections.abc import Iterable
from pathlib import Path

from advprune.errors import UserError
from advprune.report.data import records
from advprune.report.data.beside_published import add_published
from advprune.report.data.job_tables import measured_sizes, read_table
from advprune.report.data.leaderboard_rows import entries
from advprune.report.data.names import names_from_commands, names_from_tables
from advprune.report.data.published import published, published_for
from advprune.report.data.runs import Run
from advprune.report.data.significance import comparisons
from advprune.report.data.store_reader import Reader
from advprune.report.data.strongest import mark_weaker
from advprune.report.page.comparisons import with_cells
from advprune.report.page.ranking import rank
from advprune.report.plots import all_plots
from advprune.report.plots.data import PlotData
from advprune.report.standings.entry import Entry
from advprune.report.standings.page import page as standings_page
from advprune.report.standings.table import tables as standings_tables
from advprune.report.summary import ReportSummary
from advprune.report.write import write_report


def tables_of(store: Path) -> list[Path]:
    """Return the tables of the grids and jobs beside a store, in the order of their dates."""
    return sorted(
        path for kind in ("grids", "runs") for path in (store.parent / kind).glob("*/*/table.json")
    )


def build(store: Path, out: Path, tables: Iterable[Path]) -> ReportSummary:
    """Write the report of a store.

    Args:
        store: folder of the stages.
        out: folder of the report. It is made if needed, and an earlier report in it is replaced.
        tables: ``table.json`` of grids and jobs. Only what commands called their options and what
            ``sizes=true`` measured is taken from them; all other numbers come from the store.

    Raises:
        UserError: if there is no finished evaluation to report.
    """
    summary = ReportSummary(out)
    reader = Reader(store)
    runs, outcomes = _readable(reader, summary)
    summary.problems += reader.problems
    if not runs:
        raise UserError(_nothing_to_report(store, summary.problems))
    job_tables = [
        rows for path in tables if (rows := read_table(path, summary.problems)) is not None
    ]
    names = names_from_commands(runs) | names_from_tables(runs, job_tables)
    rows = entries(runs, names, measured_sizes(job_tables))
    compared = comparisons(zip(runs, outcomes, strict=True))
    rank(rows, compared)
    mark_weaker(rows)
    add_published(rows, published())
    summary.runs, summary.compared = len(runs), len(compared)
    data = PlotData(rows, published_for(rows), {run.evaluated.key: run for run in runs})
    plots, undrawn = all_plots.draw(data)
    summary.left_out += undrawn
    summary.problems += list(dict.fromkeys(data.problems))
    seen = {run.evaluated.key: (run, right) for run, right in zip(runs, outcomes, strict=True)}
    standings = [Entry(row, {seed: seen[key] for seed, key in row["runs"].items()}) for row in rows]
    text = standings_page(
        standings_tables(standings), [entry for entry in standings if entry.row["ratio"] is None]
    )
    by_key = {key: right for key, (_, right) in seen.items()}
    write_report(summary, data, by_key, with_cells(compared, rows), plots, store, standings=text)
    return summary


def _readable(
    reader: Reader, summary: ReportSummary
) -> tuple[list[Run], list[records.ImageOutcomes]]:
    """Return the runs whose per-image records agree with their results, and these records."""
    runs, outcomes = [], []
    for run in reader.runs():
        try:
            outcome = records.read_outcomes(run)
        except ValueError as error:
            summary.problems.append(str(error))
            continue
        runs.append(run)
        outcomes.append(outcome)
    return runs, outcomes


def _nothing_to_report(store: Path, problems: list[str]) -> str:
    if problems:
        return f"no evaluation in {store} can be read: {problems[0]}"
    return f"there is no finished evaluation in {store}; run prune.py first, or give --store FOLDER"
