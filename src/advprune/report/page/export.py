"""The leaderboard as files: Markdown, CSV, LaTeX, JSON."""

import json
from typing import Any

from advprune.report.data.doubts import strength
from advprune.report.data.escaping import csv_text, latex_cell, markdown_cell
from advprune.report.data.published import protocols
from advprune.report.data.runs import Found, Run
from advprune.report.page.leaderboard import FIELDS, shown

#: What is of use while a report is made.
INTERNAL = frozenset({"identity", "network", "judged", "run", "seed", "commands"})
NUMBERS = ("ratio", "sparsity", "macs", "seconds_128", "images", "of", "seeds")


def markdown(rows: list[dict[str, Any]]) -> str:
    """Write a table that renders on any forge, and under it the commands that make its rows again."""
    fields, same = shown(rows)
    lines = [[field.heading for field in fields], ["---"] * len(fields)]
    lines += [[markdown_cell(field.cell(row)) for field in fields] for row in rows]
    notes = [f"All: {markdown_cell(same)}.", ""] if same else []
    notes += [f"| {' | '.join(line)} |" for line in lines]
    papers = protocols(rows).values()
    again = list(
        dict.fromkeys(command for row in rows for command in row.get("commands", {}).values())
    )
    return "\n".join(
        [
            *notes,
            *(["", "Published, under their own protocols:", ""] if papers else []),
            *(f"* {protocol}" for protocol in papers),
            *(["", "The commands that make these rows again:", ""] if again else []),
            *(f"    {' '.join(command.split())}" for command in again),
            "",
        ]
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Write all columns as values in CSV; shares in [0, 1], and the ends of their intervals in columns."""
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
        told.append(
            flat
            | {
                "runs": " ".join(row["runs"].values()),
                "command": " && ".join(row.get("commands", {}).values()),
            }
        )
    filled = dict.fromkeys(
        name for row in told for name, value in row.items() if value not in (None, "")
    )
    return csv_text([name for name in told[0] if name in filled], told)


def latex(rows: list[dict[str, Any]], caption: str) -> str:
    """Write a table with booktabs rules; each cell is escaped, and doubts stand in a column that breaks lines."""
    fields, same = shown(rows)
    fields = [field for field in fields if field.name != "protocol"]
    numeric = {*NUMBERS, *(field.name for field in fields if field.interval)}
    columns = "".join(
        "p{6cm}" if f.name == "doubts" else "r" if f.name in numeric else "l" for f in fields
    )
    lines = [[latex_cell(field.heading) for field in fields]]
    lines += [[latex_cell(field.cell(row)) for field in fields] for row in rows]
    head, *body = [" & ".join(line) + " \\\\" for line in lines]
    told = f"{latex_cell(caption)} All: {latex_cell(same)}." if same else latex_cell(caption)
    again = dict.fromkeys(command for row in rows for command in row.get("commands", {}).values())
    return "\n".join(
        [
            "% \\usepackage{booktabs}",
            *(f"% {' '.join(command.split())}" for command in again),
            "\\begin{table}[t]",
            "\\centering",
            f"\\caption{{{told}}}",
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


def facts(rows: list[dict[str, Any]], runs: dict[str, Run]) -> dict[str, Any]:
    """``rows`` with the keys of all stages that made them, and ``stages``: folder, seconds and provenance of each."""
    told = []
    for row in rows:
        made = [
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
        told.append(kept | {"published": bool(row.get("published")), "runs": made})
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    return {"rows": told, "stages": {key: _stage(stage) for key, stage in stages.items()}}


def _stage(stage: Found) -> dict[str, Any]:
    told = {"stage": stage.kind, "folder": str(stage.folder), "parent": stage.result["parent"]}
    return told | {name: stage.result.get(name) for name in ("seconds", "provenance")}


def as_json(document: Any) -> str:
    """Indented JSON; what is no number of JSON's is refused."""
    return json.dumps(document, indent=1, allow_nan=False)
