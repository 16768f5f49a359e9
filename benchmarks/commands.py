"""Time the default command, first and second, and --help: python -m benchmarks commands"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ("prune.py", "-m", "pruner=hydra", "ratio=0.99")


def measure(*command: str) -> tuple[float, float]:
    """Return the wall seconds of a command, and the GiB that its largest process held.

    Raises:
        RuntimeError: if it fails.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "WANDB_MODE": "offline"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(
        process.pid, 0
    )  # of this child alone; RUSAGE_CHILDREN keeps the largest of all
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, used.ru_maxrss * unit / 2**30


def run() -> list[dict[str, Any]]:
    """Run the default command twice, in a store of its own, and its help, and return rows."""
    with tempfile.TemporaryDirectory() as folder:
        places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/grid")
        first, memory = measure(*DEFAULT, *places)
        second, _ = measure(*DEFAULT, *places)
    help_, _ = measure("prune.py", "--help")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"python {' '.join(DEFAULT)}"
    return [
        {
            "what": f"{name}, fresh store",
            "against": f"{cores} cores",
            "bar": "< 90 s",
            "measured": f"{first:.1f} s",
        },
        {
            "what": "the same, memory",
            "against": "one process",
            "bar": "< 2 GiB",
            "measured": f"{memory:.2f} GiB",
        },
        {
            "what": "the same, a second time",
            "against": "all found",
            "bar": "< 5 s",
            "measured": f"{second:.1f} s",
        },
        {
            "what": "python prune.py --help",
            "against": "",
            "bar": "< 4 s",
            "measured": f"{help_:.1f} s",
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
