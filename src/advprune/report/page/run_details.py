"""Pack what is known of every run into the page, which shows it where a reader opens the run."""

import base64
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

from advprune.report.data.commands import command_of
from advprune.report.data.leaderboard_rows import method_at_ratio
from advprune.report.data.records import ImageOutcomes
from advprune.report.data.row import Row
from advprune.report.data.runs import Run, StoredStage
from advprune.report.data.training_curves import read_curves
from advprune.report.page.leaderboard import percent
from advprune.report.page.pictures import pictures
from advprune.report.table.columns import count
from advprune.store.keys import SUGGESTED

#: A stage's data set in its ``config.yaml``, and what the data set suggests to other nodes.
DATASET = re.compile(r"^dataset:\n(?: .*\n?)*", re.MULTILINE)
SUGGESTIONS = re.compile(
    rf"^  (?:{'|'.join(sorted(SUGGESTED))}):.*\n?(?:(?:   |  - ).*\n?)*", re.MULTILINE
)
SHARES = {
    "clean_acc": "clean",
    "robust_acc": "robust",
    "certified_acc": "certified",
    "transfer_rate": "transfer rate",
}


def packed_details(
    rows: list[Row], runs: dict[str, Run], outcomes: dict[str, ImageOutcomes], out: Path
) -> str:
    """Return runs and stages as JSON, compressed by gzip and written in base64.

    Args:
        rows: of the leaderboard.
        runs: by the key of the evaluation.
        outcomes: which images each run has right, by the same keys.
        out: folder that the page will lie in; links to stages are relative to it.
    """
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    shown, rows_by_run = (
        pictures(rows, runs),
        {k: row for row in rows for k in row["runs"].values()},
    )
    document = {
        "runs": {
            key: _run(run, rows_by_run.get(key), outcomes.get(key)) | {"picture": shown.get(key)}
            for key, run in runs.items()
        },
        "stages": {key: _described(stage, out) for key, stage in stages.items()},
    }
    return base64.b64encode(gzip.compress(json.dumps(document).encode(), 6, mtime=0)).decode()


def _run(run: Run, row: Row | None, outcomes: ImageOutcomes | None) -> dict[str, Any]:
    """Return one run: its name, doubts and numbers, what broke it, and its accuracy by class."""
    after, parts = run.evaluated.result, run.evaluated.result.get("after_each") or {}
    return {
        "stages": [stage.key for stage in run.line],
        "title": _title(run, row),
        "doubts": [] if row is None else row.get("doubts") or [],
        "facts": _facts(after, {} if row is None else row["costs"]),
        # each part attacks what the parts before it left right
        "parts": sorted(parts.items(), key=lambda part: -part[1]),
        "images": after["images"],
        "classes": None if outcomes is None else outcomes.by_class,
    }


def _title(run: Run, row: Row | None) -> str:
    if row is None:
        return f"run {run.evaluated.key}"
    return f"{row['model']}, {method_at_ratio(row)}, seed {run.seed}"


def _facts(after: dict[str, Any], costs: dict[str, float]) -> list[list[str]]:
    """Return (name, value) of what was measured and counted.

    Args:
        after: the result of the evaluation.
        costs: means over the row's seeds, for a network that its evaluation did not count.
    """
    facts = []
    for name, called in SHARES.items():
        if after.get(name) is not None:
            low, high = after.get(f"{name}_interval") or (0, 1)
            facts.append([called, f"{percent(after[name])} % [{percent(low)}, {percent(high)}]"])
    network = after.get("network") or {}
    for key, called in (("parameters", "parameters"), ("macs", "MACs")):
        number = network.get(f"nonzero_{key}", costs.get(key))
        facts += [] if number is None else [[called, count(number)]]
    return [*facts, ["images", f"{after['images']} of {after['of']}"]]


def _described(stage: StoredStage, out: Path) -> dict[str, Any]:
    provenance = stage.result.get("provenance") or {}
    facts = [
        f"{stage.result['seconds']:.1f} s",
        *(provenance.get(name) for name in ("code", "host", "finished")),
    ]
    return {
        "kind": stage.kind,
        "folder": Path(os.path.relpath(stage.folder.resolve(), out.resolve())).as_posix(),
        "made": ", ".join(str(fact) for fact in facts if fact),
        "config": _used_options(stage),
        "command": command_of(stage.result) or "",
        "curves": read_curves(stage.folder / "curves.json"),
    }


def _used_options(stage: StoredStage) -> str:
    """Return a stage's options as YAML, without the defaults that its data set has for others.

    The stage's own options hold what it took of these.
    """
    return DATASET.sub(lambda block: SUGGESTIONS.sub("", block[0]), stage.config)
