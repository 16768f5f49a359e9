"""Time the default command, fresh, in turns with that of another checkout of advprune.

    ADVPRUNE_BASELINE=../before ADVPRUNE_ROUNDS=2 python -m benchmarks default_command

``../before`` is a worktree of the commit to compare with. Without it the row says seconds alone.
``ADVPRUNE_BUSY=1`` runs a process that only computes beside it, one on each core. Both checkouts
use this interpreter. Each stage's own seconds are printed, too.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("prune.py", "pruner=hydra", "ratio=0.99")


def seconds(checkout: Path) -> dict[str, float]:
    """Return the wall seconds of the command in a store of its own, whole and by stage."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "WANDB_MODE": "offline"}
    with tempfile.TemporaryDirectory() as folder:
        places = (f"store={folder}/stages", f"hydra.run.dir={folder}/job")
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, *COMMAND, *places],
            cwd=checkout,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        taken = {"whole": time.perf_counter() - begun}
        for path in sorted(Path(folder, "stages").glob("*/*/result.json")):
            taken[path.parts[-3]] = json.loads(path.read_text()).get("seconds", 0.0)
    return taken


@contextmanager
def busy() -> Iterator[None]:
    """Inside, compute beside on each core, if ``ADVPRUNE_BUSY`` says so."""
    cores = os.sched_getaffinity(0) if os.environ.get("ADVPRUNE_BUSY") else set[int]()
    spinning = [multiprocessing.Process(target=_spin, args=(core,), daemon=True) for core in cores]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.kill()


def _spin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    while True:
        pass


def run() -> list[dict[str, Any]]:
    """Run both in turns, and return one row."""
    baseline = os.environ.get("ADVPRUNE_BASELINE")
    checkouts = [*([Path(baseline).resolve()] if baseline else []), ROOT]
    turns: dict[Path, list[dict[str, float]]] = {checkout: [] for checkout in checkouts}
    with busy():
        for _ in range(int(os.environ.get("ADVPRUNE_ROUNDS", "1"))):
            for checkout in checkouts:
                turns[checkout].append(seconds(checkout))
                print(checkout.name, turns[checkout][-1], file=sys.stderr, flush=True)
    taken = [statistics.median(turn["whole"] for turn in turns[c]) for c in checkouts]
    cores = "busy" if os.environ.get("ADVPRUNE_BUSY") else "cores"
    against = f"{Path(baseline).name}: {taken[0]:.1f} s" if baseline else "nothing"
    measured = (
        f"{taken[0] / taken[-1]:.2f}x ({taken[-1]:.1f} s)" if baseline else f"{taken[0]:.1f} s"
    )
    return [
        {
            "what": f"python {' '.join(COMMAND)}, fresh, {len(os.sched_getaffinity(0))} {cores}",
            "against": against,
            "bar": ">= 1.25x, busy >= 1x",
            "measured": measured,
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
