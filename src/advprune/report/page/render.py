"""The report as one HTML page that needs no other file: tables, plots, configurations, style and script inside."""

import base64
import gzip
import json
import os
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from advprune.report.data.published import protocols, published
from advprune.report.data.runs import Found, Run
from advprune.report.page.leaderboard import Field, shown
from advprune.report.plots.style import Plot, slug
from advprune.store.keys import SUGGESTED

HERE = files("advprune.report.page")
#: Columns whose values a reader picks from a list.
PICKED = ("dataset", "model", "objective", "method", "attack", "data set", "differ in", "stands")
Row = dict[str, Any]
VERDICTS = {False: "", True: "stands"}
CELL: dict[str, Any] = {
    "text": "",
    "small": "",
    "link": "",
    "value": None,
    "kind": "",
    "runs": (),
    "heading": "",
}
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
#: What a cell of this column looks like.
KINDS = {"protocol": "wide", "doubts": "wide doubts"}


def page(
    rows: list[Row], compared: list[Row], plots: list[Plot], runs: dict[str, Run], **told: Any
) -> str:
    """The page.

    Args:
        rows: of the leaderboard, ours and published.
        compared: see ``compare.comparisons``, with ``cells`` (see ``comparisons.py``).
        told: ``report``, ``store``, ``finished``, ``out`` (the folder the page will lie in).
    """
    kinds = [(kind, list(drawn)) for kind, drawn in groupby(plots, lambda plot: plot.kind)]
    contents = [
        ("leaderboard", "Leaderboard"),
        *([("differences", "Which differences stand")] if compared else []),
    ]
    contents += [(slug(kind), kind) for kind, _ in kinds] + [("papers", "Published numbers")]
    return _template().render(
        board=_board(rows),
        pairs=_pairs(compared),
        published=_board(published()),
        contents=contents,
        published_shown=any(row.get("published") for row in rows),
        plots=[
            ({"id": slug(kind), "title": kind}, [_figure(plot) for plot in drawn])
            for kind, drawn in kinds
        ],
        protocols=protocols(published()),
        configs=_configs(runs, told["out"]),
        css=_inside("page.css"),
        js=_inside("page.js"),
        **told,
    )


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string((HERE / "page.html").read_text())


def _inside(name: str) -> Markup:
    return Markup((HERE / name).read_text())


def _figure(plot: Plot) -> dict[str, Any]:
    return {"title": plot.title, "caption": plot.caption, "svg": Markup(plot.inline())}


def _board(rows: list[Row]) -> dict[str, Any]:
    fields, same = shown(rows)
    numeric = {field.name: all(_is_number(field.value(row)) for row in rows) for field in fields}
    headings = [{"text": field.heading, "numeric": numeric[field.name]} for field in fields]
    cells = [
        {
            "published": bool(row.get("published")),
            "cells": [
                *(_cell(field, row, number=numeric[field.name]) for field in fields),
                *_runs(row, rows),
            ],
        }
        for row in rows
    ]
    filters = [(at, field.heading) for at, field in enumerate(fields) if field.name in PICKED]
    if any(row["runs"] for row in rows):
        headings.append({"text": "runs", "numeric": False})
    return {"headings": headings, "rows": cells, "filters": filters, "same": same}


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(field: Field, row: Row, *, number: bool) -> dict[str, Any]:
    value = field.value(row)
    kind = "number" if number else KINDS.get(field.name, "")
    if field.name == "versus":
        kind = VERDICTS[str(value).endswith(", stands")]
    text, small = field.parts(row)
    link = f"#protocol-{row['protocol_id']}" if field.name == "protocol" and text else ""
    told = {
        "text": text,
        "small": small,
        "link": link,
        "value": _sorted_by(value) if number else None,
    }
    return CELL | told | {"kind": kind, "heading": field.heading}


def _sorted_by(value: float | None) -> str:
    return "" if value is None else repr(value)


def _runs(row: Row, rows: list[Row]) -> list[dict[str, Any]]:
    """The last column: none if no row has runs."""
    if not any(r["runs"] for r in rows):
        return []
    runs = [
        (seed, key, row.get("commands", {}).get(seed) or "") for seed, key in row["runs"].items()
    ]
    return [CELL | {"kind": "of-runs", "runs": runs, "heading": "runs"}]


def _pairs(compared: list[Row]) -> dict[str, Any]:
    """The comparisons, those that stand first and the largest difference first."""
    order = sorted(compared, key=lambda row: (not row["stands"], -abs(row["difference"])))
    names = list(order[0]["cells"]) if order else []
    same = [
        name
        for name in names
        if len(order) > 1 and len({row["cells"][name][1] for row in order}) == 1
    ]
    said = ", ".join(
        f"{name} {order[0]['cells'][name][1]}" for name in same if order[0]["cells"][name][1]
    )
    names = [name for name in names if name not in same]
    numeric = {name: all(_is_number(row["cells"][name][0]) for row in order) for name in names}
    headings = [{"text": name, "numeric": numeric[name]} for name in names]
    rows = [
        {
            "published": False,
            "cells": [_pair_cell(row, name, number=numeric[name]) for name in names],
        }
        for row in order
    ]
    filters = [(at, name) for at, name in enumerate(names) if name in PICKED]
    return {"headings": headings, "rows": rows, "filters": filters, "same": said}


def _pair_cell(row: Row, name: str, *, number: bool) -> dict[str, Any]:
    value, text = row["cells"][name]
    kind = "number" if number else VERDICTS[row["stands"]] if name == "stands" else ""
    kind = "nowrap" if text.startswith("[") else kind
    return CELL | {
        "text": text,
        "value": _sorted_by(value) if number else None,
        "kind": kind,
        "heading": name,
    }


def _configs(runs: dict[str, Run], out: Path) -> str:
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    told = {
        "runs": {key: [stage.key for stage in run.line] for key, run in runs.items()},
        "stages": {key: _stage(stage, out) for key, stage in stages.items()},
    }
    return base64.b64encode(gzip.compress(json.dumps(told).encode(), 6, mtime=0)).decode()


def _stage(stage: Found, out: Path) -> dict[str, Any]:
    made = stage.result.get("provenance") or {}
    said = [
        f"{stage.result['seconds']:.1f} s",
        made.get("code"),
        made.get("host"),
        made.get("finished"),
    ]
    folder = Path(os.path.relpath(stage.folder.resolve(), out.resolve())).as_posix()
    told = {
        "kind": stage.kind,
        "folder": folder,
        "made": ", ".join(str(fact) for fact in said if fact),
    }
    return told | {"config": _recipe(stage), "command": str(made.get("command") or "")}


def _recipe(stage: Found) -> str:
    """The stage's options as YAML, without what its data set suggests to others: the stage holds what it took."""
    dataset = stage.options.get("dataset")
    if not isinstance(dataset, dict):
        return stage.config
    used = {name: value for name, value in dataset.items() if name not in SUGGESTED}
    return str(
        yaml.dump(
            stage.options | {"dataset": used}, Dumper=DUMPER, sort_keys=False, allow_unicode=True
        )
    )
