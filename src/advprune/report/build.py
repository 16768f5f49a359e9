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
from advprune.report.data.significance import comparisons
from advprune.report.data.store_reader import Reader
from advprune.report.data.strongest import mark_weaker
from advprune.report.page.comparisons import with_cells
from advprune.report.page.ranking import rank
from advprune.report.plots import all_plots
from advprune.report.plots.data import PlotData
from advprune.report.standings.entry import Entry, Seen
from advprune.report.standings.page import page
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
    seen = _readable(reader, summary)
    runs = [run for run, _ in seen]
    summary.problems += reader.problems
    if not runs:
        raise UserError(_nothing_to_report(store, summary.problems))
    read = [read_table(path, summary.problems) for path in tables]
    job_tables = [rows for rows in read if rows is not None]
    names = names_from_commands(runs) | names_from_tables(runs, job_tables)
    rows = entries(runs, names, measured_sizes(job_tables))
    compared = comparisons(seen)
    rank(rows, compared)
    mark_weaker(rows)
    add_published(rows, published())
    summary.runs, summary.compared = len(runs), len(compared)
    data = PlotData(rows, published_for(rows), {run.evaluated.key: run for run in runs})
    plots, undrawn = all_plots.draw(data)
    summary.left_out += undrawn
    summary.problems += list(dict.fromkeys(data.problems))
    by_key = {run.evaluated.key: (run, outcome) for run, outcome in seen}
    standings = [Entry(row, {n: by_key[key] for n, key in row["runs"].items()}) for row in rows]
    outcomes = {run.evaluated.key: outcome for run, outcome in seen}
    write_report(
        summary, data, outcomes, with_cells(compared, rows), plots, store, standings=page(standings)
    )
    return summary


def _readable(reader: Reader, summary: ReportSummary) -> list[Seen]:
    """Return the runs whose per-image records agree with their results, with these records."""
    seen = []
    for run in reader.runs():
        try:
            seen.append((run, records.read_outcomes(run)))
        except ValueError as error:
            summary.problems.append(str(error))
    return seen


def _nothing_to_report(store: Path, problems: list[str]) -> str:
    if problems:
        return f"no evaluation in {store} can be read: {problems[0]}"
    return f"there is no finished evaluation in {store}; run prune.py first, or give --store FOLDER"
