"""Write a report's files: the leaderboard in five formats, the plots, and the page."""

import json
import time
from pathlib import Path

from advprune.errors import UserError
from advprune.report.data.intervals import interval_notes
from advprune.report.data.records import ImageOutcomes
from advprune.report.page.comparisons import ShownComparison, without_runs
from advprune.report.page.export import as_json, latex, markdown, rows_and_stages, table
from advprune.report.page.render import page
from advprune.report.page.robustbench import model_infos
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
    drawings = {f"{plot.name}.svg": plot.file() for plot in plots}
    infos = {name: as_json(info) for name, info in model_infos(data.rows, data.runs).items()}
    _write_folder(out, "plots", drawings)
    _write_folder(out, "robustbench", infos)
    document = {
        "finished": finished,
        "store": str(store),
        "runs": summary.runs,
        "problems": summary.problems,
        "plots": sorted(drawings),
        "robustbench": sorted(infos),
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
        write_atomically(out / name, text, durable=False)


def _write_folder(out: Path, name: str, files: dict[str, str]) -> None:
    """Write files, and delete those that the report of before had and this one has not."""
    for folder in (out, out / name):
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a link to {folder.readlink()}: nothing is written through it; "
                "delete it, or use --out"
            )
    for earlier in set(_earlier_files(out, name)) - files.keys():
        (out / name / Path(earlier).name).unlink(missing_ok=True)
    (out / name if files else out).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        # a report can be made again: nobody waits for the disk
        write_atomically(out / name / file, text, durable=False)


def _earlier_files(out: Path, name: str) -> list[str]:
    """Return the names of the files that the report that lies there has in one of its folders."""
    try:
        return list(json.loads((out / f"{LEADERBOARD}.json").read_text())[name])
    except (OSError, ValueError, KeyError, TypeError):
        return []
