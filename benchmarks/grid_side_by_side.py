"""Time a fresh grid serially and side by side: python -m benchmarks grid_side_by_side

27 jobs on digits, three pruners, ratios and seeds, with the default network and short training, in
a store of their own each time. Leave the machine alone meanwhile; it takes some 20 minutes.
``ADVPRUNE_JOBS=12`` takes 12 jobs with less than half of the training: 3 minutes, in which what
each job costs beside its training weighs more.
"""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from advprune.runtime.provenance import usable_processors
from benchmarks.commands import measure

SMALL = os.environ.get("ADVPRUNE_JOBS") == "12"
VARIED = ("ratio=0.9,0.99", "seed=0,1") if SMALL else ("ratio=0.9,0.95,0.99", "seed=0,1,2")
TRAINING, SEARCH = (4, 2) if SMALL else (10, 5)
GRID = (
    "prune.py",
    "-m",
    "pruner=hydra,magnitude,random",
    *VARIED,
    "trainer=cpu",
    f"training.epochs={TRAINING}",
    f"search.epochs={SEARCH}",
    f"finetune.epochs={TRAINING}",
    "report=false",
)
#: Columns that are not results.
NO_RESULTS = {"seconds", "files", "code", "made", "found", "this_command", "dense_records"}


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a grid's table, without times and places."""
    table: list[dict[str, Any]] = json.loads((folder / "table.json").read_text())
    return [{name: row[name] for name in row if name not in NO_RESULTS} for row in table]


def weights(store: Path) -> dict[str, str]:
    """Return a checksum of each file of weights and masks, by its place in the store."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.glob("*/*/*.safetensors")
    }


def run() -> list[dict[str, Any]]:
    """Run the grid both ways and return a row."""
    seconds, tables, stages = {}, {}, {}
    for launcher in ("basic", "local"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/grid")
            seconds[launcher], _ = measure(*GRID, f"hydra/launcher={launcher}", *places)
            tables[launcher], stages[launcher] = rows(folder / "grid"), weights(folder / "stages")
    faster = seconds["basic"] / seconds["local"]
    same = "same table" if tables["basic"] == tables["local"] else "ANOTHER TABLE"
    same += ", same weights" if stages["basic"] == stages["local"] else ", OTHER WEIGHTS"
    return [
        {
            "what": f"{len(tables['basic'])} jobs on digits side by side, {TRAINING} + {SEARCH} + "
            f"{TRAINING} epochs, {usable_processors()} cores",
            "against": f"one after the other: {seconds['basic']:.0f} s",
            "bar": ">= 1.8x on 2 cores",
            "measured": f"{faster:.2f}x ({seconds['local']:.0f} s), {same}",
        }
    ]
