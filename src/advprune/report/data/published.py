"""Load published numbers, to show beside our own.

``published.json`` gives the source and the protocol of each number. None was measured here.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from advprune.report.data.row import Row

MEASURES = {"clean": "clean_acc", "robust": "robust_acc", "certified": "certified_acc"}


@cache
def published() -> list[Row]:
    """Return all published rows in the leaderboard's form: shares in [0, 1], without intervals."""
    data = json.loads((files("advprune.report") / "published.json").read_text())
    return [
        _entry(dict(zip(data["columns"], row, strict=True)), data["protocols"], data["pruners"])
        for row in data["rows"]
    ]


def _entry(
    row: Row, protocols: dict[str, dict[str, Any]], pruners: dict[str, dict[str, str]]
) -> Row:
    protocol = protocols[row["protocol"]]
    shares = {to: None if row[name] is None else row[name] / 100 for name, to in MEASURES.items()}
    dense = row["method"] == "dense"
    return shares | {
        "published": True,
        "protocol": protocol["source"],
        "note": protocol["note"],
        "protocol_id": row["protocol"],
        "dataset": row["dataset"],
        "model": row["model"],
        "objective": None,
        "pruner": None if dense else row["method"],
        "unit": None if dense else row["unit"],
        "ratio": None if dense else row["ratio"],
        "sparsity": row["ratio"],
        "attack": protocol["attack"],
        "norm": protocol["norm"],
        "eps": protocol["eps"],
        "images": protocol["images"],
        "count": protocol.get("count"),
        "ours": None if dense else pruners[row["unit"]].get(row["method"]),
        "quantizer": None,
        "source": None,
        "options": "",
        "runs": {},
        "seeds": None,
    }


def protocols(rows: list[Row]) -> dict[str, str]:
    """Return the protocols of the published ones among these rows, as sentences, by their ids."""
    return {
        row["protocol_id"]: f"{row['protocol']}: {row['note']}"
        for row in rows
        if row.get("published")
    }


def published_for(rows: list[Row]) -> list[Row]:
    """Return the published rows of the data sets and networks that occur in these rows."""
    ours = {(row["dataset"].split(" ")[0], row["model"].split(" ")[0]) for row in rows}
    return [row for row in published() if (row["dataset"], row["model"]) in ours]
