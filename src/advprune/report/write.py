"""Write a report's files: the leaderboard in four formats, the plots, and the page."""

import json
import time
from pathlib import Path

from advprune.errors import UserError
from advprune.report.data.intervals import interval_notes
from advprune.report.data.records import ImageOutcomes
from advprune.report.page.comparisons import ShownComparison, without_runs
from advprune.report.page.export import as_json, latex, markdown, rows_and_stages, table
from advprune.report.page.render import page
from advprune.report.plots.data import PlotData
from advprune.report.plots.style import Plot
from advprune.report.summary import ReportSummary
from advprune.runtime.safe_files import write_atomically

PAGE = "index.html"
LEADERBOARD = "leaderboard"
STANDINGS = "standings.md"
CAPTION = "Accuracy in percent on test images, with 95 % intervals."


def write_report(
    summary: ReportSummary,
    data: PlotData,
    outcomes: dict[str, ImageOutcomes],
    compared: list[ShownComparison],
    plots: list[Plot],
    store: Path,
    *,
    standings: str,
) -> None:
    """Write all files into ``summary.folder``, and delete plots that only an earlier report had.

    Args:
        summary: what the report holds.
        data: the leaderboard's rows, published ones and runs.
        outcomes: which images each run has right, by the key of the evaluation.
        compared: the comparisons, with ``cells``.
        plots: the drawings.
        store: folder of the stages, to name it.
        standings: the page of ``standings/page.py``.

    Raises:
        UserError: if the folder is a link.
    """
    out, rows = summary.folder, [*data.rows, *data.published]
    finished = time.strftime("%Y-%m-%d %H:%M:%S %z")
    _write_plots(out, plots)
    document = {
        "finished": finished,
        "store": str(store),
        "runs": summary.runs,
        "problems": summary.problems,
        "plots": sorted(f"{plot.name}.svg" for plot in plots),
        "intervals": interval_notes({row["seeds"] for row in data.rows}),
        "left_out": summary.left_out,
        "comparisons": without_runs(compared),
        **rows_and_stages(rows, data.runs),
    }
    files = {
        f"{LEADERBOARD}.json": as_json(document),
        f"{LEADERBOARD}.md": markdown(rows),
        f"{LEADERBOARD}.csv": table(rows),
        f"{LEADERBOARD}.tex": latex(rows, CAPTION),
        STANDINGS: standings,
        PAGE: page(
            rows,
            compared,
            plots,
            data.runs,
            outcomes=outcomes,
            report=summary,
            store=str(store),
            finished=finished,
            out=out,
        ),
    }
    for name, text in files.items():
        write_atomically(out / name, text)


def _write_plots(out: Path, plots: list[Plot]) -> None:
    """Write the plots, and delete those that the report of before had and this one has not."""
    for folder in (out, out / "plots"):
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a link to {folder.readlink()}: nothing is written through it; "
                "delete it, or use --out"
            )
    (out / "plots").mkdir(parents=True, exist_ok=True)
    for name in set(_earlier_plots(out)) - {f"{plot.name}.svg" for plot in plots}:
        (out / "plots" / Path(name).name).unlink(missing_ok=True)
    for plot in plots:
        write_atomically(out / "plots" / f"{plot.name}.svg", plot.file())


def _earlier_plots(out: Path) -> list[str]:
    """Return the names of the plots of the report that lies there."""
    try:
        return list(json.loads((out / f"{LEADERBOARD}.json").read_text())["plots"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
