"""Pack every stage's configuration into the page, which shows it where a reader opens a run."""

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import yaml

from advprune.report.data.runs import Run, StoredStage
from advprune.store.keys import SUGGESTED

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def packed_configurations(runs: dict[str, Run], out: Path) -> str:
    """Return runs and stages as JSON, compressed by gzip and written in base64.

    Args:
        runs: by the key of the evaluation.
        out: folder that the page will lie in; links to stages are relative to it.
    """
    stages = {stage.key: stage for run in runs.values() for stage in run.line}
    document = {
        "runs": {key: [stage.key for stage in run.line] for key, run in runs.items()},
        "stages": {key: _described(stage, out) for key, stage in stages.items()},
    }
    return base64.b64encode(gzip.compress(json.dumps(document).encode(), 6, mtime=0)).decode()


def _described(stage: StoredStage, out: Path) -> dict[str, Any]:
    provenance = stage.result.get("provenance") or {}
    made = [
        f"{stage.result['seconds']:.1f} s",
        *(provenance.get(name) for name in ("code", "host", "finished")),
    ]
    return {
        "kind": stage.kind,
        "folder": Path(os.path.relpath(stage.folder.resolve(), out.resolve())).as_posix(),
        "made": ", ".join(str(fact) for fact in made if fact),
        "config": _used_options(stage),
        "command": str(provenance.get("command") or ""),
    }


def _used_options(stage: StoredStage) -> str:
    """Return a stage's options as YAML, without the defaults that its data set has for others.

    The stage's own options hold what it took of these.
    """
    dataset = stage.options.get("dataset")
    if not isinstance(dataset, dict):
        return stage.config
    used = {name: value for name, value in dataset.items() if name not in SUGGESTED}
    options = stage.options | {"dataset": used}
    return str(yaml.dump(options, Dumper=DUMPER, sort_keys=False, allow_unicode=True))
