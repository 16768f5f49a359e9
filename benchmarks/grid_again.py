"""Repeat a grid of 1,000 finished jobs: python -m benchmarks grid_again

One job is made in earnest. Its five stages then stand for those of all the others, written by the
store itself under the keys that the grid asks for: to the second call there is no difference.
"""

import json
import os
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from advprune.store.checksums import MARK
from benchmarks.commands import ROOT, measure

TINY = (
    "model.widths=[4,4,4]",
    "dataset.train_images=192",
    "training.epochs=1",
    "search.epochs=1",
    "finetune.epochs=1",
    "select.steps=2",
    "select.images=64",
    "objective.attack.steps=2",
    "attack.images=32",
    "trainer=cpu",
)
PRUNERS, ATTACKS, RATIOS, SEEDS = (
    ("hydra", "magnitude"),
    ("pgd", "fgsm"),
    (0.5, 0.8, 0.9, 0.95, 0.99),
    range(50),
)
GRID = (
    f"pruner={','.join(PRUNERS)}",
    f"attack={','.join(ATTACKS)}",
    f"ratio={','.join(map(str, RATIOS))}",
    f"seed=range({len(SEEDS)})",
)


def fill(root: Path) -> int:
    """Finish every stage of the grid in the store at ``root`` and return the number of jobs."""
    from hydra import compose, initialize_config_dir

    import prune
    from advprune.config.options import options_of, resolve
    from advprune.pipeline.plan import plan_pruned
    from advprune.store.store import Store

    assert prune  # its import registers the schemas
    store = Store(root)
    templates = {path.parts[-2]: path for path in root.glob("*/*/")}
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for pruner, attack in product(PRUNERS, ATTACKS):
            options = resolve(compose("prune", [*TINY, f"pruner={pruner}", f"attack={attack}"]))
            for ratio, seed in product(RATIOS, SEEDS):
                one = options_of(options | {"ratio": ratio, "seed": seed})
                for stage in plan_pruned(one).stages:
                    if not store.done(stage):
                        with store.claim(stage, waiting=lambda _: None) as folder:
                            _like(templates[stage.kind], folder)
                            result = json.loads((folder / "result.json").read_text())
                            store.finish(stage, result | {"key": stage.key})
    return len(PRUNERS) * len(ATTACKS) * len(RATIOS) * len(SEEDS)


def _like(template: Path, folder: Path) -> None:
    for path in template.iterdir():
        if path.is_file() and path.name != MARK and not path.name.startswith("."):
            shutil.copy(path, folder)


def run() -> list[dict[str, Any]]:
    """Time the grid's second call, and check that it makes nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/grid")
        measure("prune.py", "-m", f"pruner={PRUNERS[0]}", *TINY, *places)
        jobs = fill(folder / "stages")
        lines = (folder / "stages" / "journal.jsonl").read_text()
        seconds, memory = measure("prune.py", "-m", *GRID, *TINY, *places)
        rows = json.loads((folder / "grid" / "table.json").read_text())
        reused = sum(row["found"] for row in rows)
        if len(rows) != jobs or any(row["made"] for row in rows):
            raise RuntimeError(
                f"{len(rows)} of {jobs} jobs have a row, "
                f"and {sum(r['made'] for r in rows)} stages were made"
            )
        if (folder / "stages" / "journal.jsonl").read_text() != lines:
            raise RuntimeError("the second call made stages")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"a grid of {jobs} finished jobs again"
    return [
        {
            "what": name,
            "against": f"{reused} stages found; {cores} cores",
            "bar": "< 30 s",
            "measured": f"{seconds:.1f} s",
        },
        {
            "what": "the same, memory",
            "against": "one process",
            "bar": "",
            "measured": f"{memory:.2f} GiB",
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
