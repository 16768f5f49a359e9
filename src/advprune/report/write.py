"""The leaderboard as files: Markdown, CSV, LaTeX, JSON. Each is replaced in one step."""

import json
import os
from pathlib import Path
from typing import Any

from advprune.report.board import FIELDS, shown
from advprune.report.found import Found, Run
from advprune.report.published import protocols

#: What is of use while a report is made.
INTERNAL = frozenset({"identity", "network", "judged", "run", "seed"})
NUMBERS = ("ratio", "sparsity", "macs", "seconds_128", "images", "seeds")


def put(path: Path, text: str) -> None:
    """Write a file whole or not at all, so that two reports at once leave one of them."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table that renders on any forge; ``|`` in a cell is escaped."""
    fields, same = shown(rows)
    lines = [[field.heading for field in fields], ["---"] * len(fields)]
    lines += [[field.cell(row).replace("|", "\\|") for field in fields] for row in rows]
    notes = [f"All: {same}.", ""] if same else []
    notes += [f"| {' | '.join(line)} |" for line in lines]
    papers = protocols(rows).values()
    return "\n".join([*notes, *(["", "Published, under their own protocols:", ""] if papers else []),
                      *(f"* {protocol}" for protocol in papers), ""])  # fmt: skip


def table(rows: list[dict[str, Any]]) -> Any:
    """All columns as values, a pandas DataFrame; shares in [0, 1], and the ends of their intervals in columns."""
    import pandas as pd

    told = []
    for row in rows:
        flat: dict[str, Any] = {"published": bool(row.get("published"))}
        for field in FIELDS:
            flat[field.name] = field.value(row)
            if field.name == "protocol":
                flat["note"] = row.get("note")
            if field.interval:
                low, high = row.get(f"{field.name}_interval") or (None, None)
                flat |= {f"{field.name}_low": low, f"{field.name}_high": high}
        told.append(flat | {"runs": " ".join(row["runs"].values())})
    return pd.DataFrame(told).dropna(axis="columns", how="all")


def latex(rows: list[dict[str, Any]], caption: str) -> str:
    """A table with booktabs rules; what is in its cells is escaped, intervals are set small."""
    import pandas as pd

    fields, same = shown(rows)
    fields = [field for field in fields if field.name != "protocol"]
    if same:
        caption = f"{caption} All: {_escaped(same)}."
    frame = pd.DataFrame([[field.cell(row) for field in fields] for row in rows], columns=[f.heading for f in fields])
    style = frame.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    numeric = {*NUMBERS, *(field.name for field in fields if field.interval)}
    columns = "".join("r" if field.name in numeric else "l" for field in fields)
    return "% \\usepackage{booktabs}\n" + style.to_latex(
        hrules=True, column_format=columns, caption=caption, position="t", position_float="centering"
    )


def _escaped(text: str) -> str:
    for special in "&%$#_{}":
        text = text.replace(special, f"\\{special}")
    return text


def facts(rows: list[dict[str, Any]], runs: dict[str, Run]) -> dict[str, Any]:
    """``rows`` with the keys of all stages that made them, and ``stages``: folder, seconds and provenance of each."""
    told = []
    for row in rows:
        made = [
            {"seed": seed, "evaluated": key, "stages": [stage.key for stage in runs[key].line]}
            for seed, key in row["runs"].items()
        ]
        kept = {name: value for name, value in row.items() if name not in INTERNAL}
        told.append(kept | {"published": bool(row.get("published")), "runs": made})
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    return {"rows": told, "stages": {key: _stage(stage) for key, stage in stages.items()}}


def _stage(stage: Found) -> dict[str, Any]:
    told = {"stage": stage.kind, "folder": str(stage.folder), "parent": stage.result["parent"]}
    return told | {name: stage.result.get(name) for name in ("seconds", "provenance")}


def as_json(document: Any) -> str:
    """Indented JSON; what is no number of JSON's is refused."""
    return json.dumps(document, indent=1, allow_nan=False)
