"""Render the report as one HTML page that needs no other file: style and script are inside."""

from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from advprune.report.data.published import protocols, published
from advprune.report.data.records import ImageOutcomes
from advprune.report.data.row import Row
from advprune.report.data.runs import Run
from advprune.report.page.comparisons import ShownComparison
from advprune.report.page.html_tables import comparison_table, leaderboard_table
from advprune.report.page.run_details import packed_details
from advprune.report.plots.style import Plot, slug
from advprune.report.summary import ReportSummary

HERE = files("advprune.report.page")


def page(
    rows: list[Row],
    compared: list[ShownComparison],
    plots: list[Plot],
    runs: dict[str, Run],
    *,
    outcomes: dict[str, ImageOutcomes],
    report: ReportSummary,
    store: str,
    finished: str,
    out: Path,
) -> str:
    """Return the page.

    Args:
        rows: of the leaderboard, measured and published.
        compared: the comparisons, with ``cells`` (see ``page/comparisons.py``).
        plots: the drawings.
        runs: by the key of the evaluation.
        outcomes: which images each run has right, by the same keys.
        report: counts, problems and what is left out.
        store: name of the store.
        finished: when the report was made.
        out: folder that the page will lie in.
    """
    kinds = [(kind, list(drawn)) for kind, drawn in groupby(plots, lambda plot: plot.kind)]
    significance = [("differences", "Which differences are significant")] if compared else []
    contents = [("leaderboard", "Leaderboard"), *significance]
    contents += [(slug(kind), kind) for kind, _ in kinds] + [("papers", "Published numbers")]
    return _template().render(
        board=leaderboard_table(rows),
        pairs=comparison_table(compared),
        published=leaderboard_table(published()),
        contents=contents,
        published_shown=any(row.get("published") for row in rows),
        plots=[
            ({"id": slug(kind), "title": kind}, [_figure(plot) for plot in drawn])
            for kind, drawn in kinds
        ],
        protocols=protocols(published()),
        details=packed_details(rows, runs, outcomes, out),
        css=_verbatim("page.css"),
        js=_verbatim("page.js"),
        run_js=_verbatim("run.js"),
        report=report,
        store=store,
        finished=finished,
    )


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string((HERE / "page.html").read_text())


def _verbatim(name: str) -> Markup:
    return Markup((HERE / name).read_text())


def _figure(plot: Plot) -> dict[str, Any]:
    return {"title": plot.title, "caption": plot.caption, "svg": Markup(plot.inline())}
