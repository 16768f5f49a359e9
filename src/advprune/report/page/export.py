"""Write the leaderboard as Markdown, CSV, LaTeX and JSON."""

import json
from typing import Any

from advprune.report.data.commands import command_of
from advprune.report.data.escaping import latex_cell, markdown_cell
from advprune.report.data.published import protocols
from advprune.report.data.row import Row
from advprune.report.data.runs import Run, StoredStage
from advprune.report.page.leaderboard import FIELDS, shown_fields
from advprune.report.table.job_row import strength
from advprune.report.table.terminal import csv_text

#: Columns of use only while a report is made.
INTERNAL = frozenset({"identity", "network", "evaluation", "run", "seed", "commands"})
NUMBERS = (
    "place",
    "ratio",
    "sparsity",
    "parameters",
    "macs",
    "seconds_128",
    "images",
    "of",
    "seeds",
)


def markdown(rows: list[Row]) -> str:
    """Return a Markdown table, and under it the commands that make its rows again."""
    fields, same = shown_fields(rows)
    lines = [[field.heading for field in fields], ["---"] * len(fields)]
    lines += [[markdown_cell(field.cell(row)) for field in fields] for row in rows]
    notes = [f"All: {markdown_cell(same)}.", ""] if same else []
    notes += [f"| {' | '.join(line)} |" for line in lines]
    papers = protocols(rows).values()
    commands = list(
        dict.fromkeys(command for row in rows for command in row.get("commands", {}).values())
    )
    return "\n".join(
        [
            *notes,
            *(["", "Published, under their own protocols:", ""] if papers else []),
            *(f"* {protocol}" for protocol in papers),
            *(["", "The commands that make these rows again:", ""] if commands else []),
            *(f"    {' '.join(command.split())}" for command in commands),
            "",
        ]
    )


def table(rows: list[Row]) -> str:
    """Return all columns as values in CSV: shares in [0, 1], the ends of intervals in columns."""
    lines = []
    for row in rows:
        flat: dict[str, Any] = {"published": bool(row.get("published"))}
        for field in FIELDS:
            flat[field.name] = field.value(row)
            if field.name == "protocol":
                flat["note"] = row.get("note")
            if field.interval:
                low, high = row.get(f"{field.name}_interval") or (None, None)
                flat |= {f"{field.name}_low": low, f"{field.name}_high": high}
        lines.append(
            flat
            | {
                "runs": " ".join(row["runs"].values()),
                "command": " && ".join(row.get("commands", {}).values()),
            }
        )
    filled = dict.fromkeys(
        name for row in lines for name, value in row.items() if value not in (None, "")
    )
    return csv_text([name for name in lines[0] if name in filled], lines)


def latex(rows: list[Row], caption: str) -> str:
    """Return a LaTeX table with booktabs rules; every cell is escaped, doubts may break lines."""
    fields, same = shown_fields(rows)
    fields = [field for field in fields if field.name != "protocol"]
    numeric = {*NUMBERS, *(field.name for field in fields if field.interval)}
    columns = "".join(
        "p{6cm}" if f.name == "doubts" else "r" if f.name in numeric else "l" for f in fields
    )
    lines = [[latex_cell(field.heading) for field in fields]]
    lines += [[latex_cell(field.cell(row)) for field in fields] for row in rows]
    head, *body = [" & ".join(line) + " \\\\" for line in lines]
    full_caption = (
        f"{latex_cell(caption)} All: {latex_cell(same)}." if same else latex_cell(caption)
    )
    commands = dict.fromkeys(
        command for row in rows for command in row.get("commands", {}).values()
    )
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            *(f"% {' '.join(command.split())}" for command in commands),
            "\\begin{table}[t]",
            "\\centering",
            f"\\caption{{{full_caption}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            head,
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def rows_and_stages(rows: list[Row], runs: dict[str, Run]) -> dict[str, Any]:
    """Return what ``leaderboard.json`` says of the rows and the stages behind them.

    Returns:
        ``rows``, each with the keys of its stages, and ``stages``: {key: kind, folder, parent,
        seconds, provenance}.
    """
    listed = []
    for row in rows:
        seeds = [
            {
                "seed": seed,
                "evaluated": key,
                "stages": [stage.key for stage in runs[key].line],
                "command": row["commands"].get(seed),
            }
            for seed, key in row["runs"].items()
        ]
        kept = {name: value for name, value in row.items() if name not in INTERNAL} | {
            "strength": strength(row)
        }
        listed.append(kept | {"published": bool(row.get("published")), "runs": seeds})
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    return {"rows": listed, "stages": {key: _stage(stage) for key, stage in stages.items()}}


def _stage(stage: StoredStage) -> dict[str, Any]:
    entry = {"stage": stage.kind, "folder": str(stage.folder), "parent": stage.result["parent"]}
    provenance = stage.result.get("provenance")
    if isinstance(provenance, dict):
        provenance = provenance | {"command": command_of(stage.result)}
    return entry | {"seconds": stage.result.get("seconds"), "provenance": provenance}


def as_json(document: object) -> str:
    """Return indented JSON; NaN and infinity are refused, as JSON has none."""
    return json.dumps(document, indent=1, allow_nan=False)
