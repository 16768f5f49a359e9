"""A grid killed with -9 in its training and given again: one W&B run a job, each whole, in one group."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from test_loggers import sync
from wandb_server import WandbServer

pytestmark = pytest.mark.slow
GRID = (
    "prune.py",
    "-m",
    "hydra/launcher=basic",  # the process that is killed is the one that trains
    "pruner=magnitude",
    "ratio=0.5,0.9",
    *TINY,
    "training.epochs=40",
    "logger=wandb",
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = own | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
        "NETRC": str(folder / "none"),
    }
    places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/grids/{time.monotonic_ns()}")
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *GRID, *places], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


def test_one_run_a_job_after_a_kill(tmp_path: Path) -> None:
    killed = start(tmp_path)
    try:
        wait_for_a_checkpoint(tmp_path, killed)
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait(600)
    assert not list(tmp_path.glob("stages/dense/*/complete"))
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1
    assert start(tmp_path).wait(1800) == 0, (tmp_path / "log").read_text()
    check(tmp_path)


def check(folder: Path) -> None:
    """What a server has after ``wandb sync``: the two jobs, whole, and the grid's table."""
    told = [json.loads(path.read_text()) for path in folder.glob("grids/*/*/job.json")]
    jobs = [job["row"] for job in told if "row" in job]  # the killed one's has none
    (kept,) = folder.glob("stages/dense/*/curves.json")
    (rows,) = json.loads(kept.read_text()).values()
    assert len(rows) == 40
    with WandbServer() as server:
        sync(folder / "wandb", server)
    kinds = {identity: run["kind"] for identity, run in server.runs.items()}
    assert {name for name, kind in kinds.items() if kind == "prune"} == {
        Path(row["files"]["evaluated"]).name for row in jobs
    }
    assert sorted(kinds.values()) == ["grid", "prune", "prune"]
    (group,) = {run["group"] for run in server.runs.values()}
    assert group[:100] == " ".join(["prune", *sorted(grid_words())])[:100]
    for identity in (name for name, kind in kinds.items() if kind == "prune"):
        told = [row for row in server.history(identity) if "dense/epoch" in row]
        assert [row["dense/epoch"] for row in told] == [row["epoch"] for row in rows]
        assert [row["dense/loss"] for row in told] == pytest.approx([row["loss"] for row in rows])
        assert server.runs[identity]["summary"]["robust_acc"] in {row["robust_acc"] for row in jobs}


def wait_for_a_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 900
    while not list(folder.glob("stages/dense/*/work/last.ckpt")):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def grid_words() -> list[str]:
    """The command's words but for those that say where it runs."""
    return [word for word in GRID[2:] if not word.startswith(("hydra/", "trainer", "logger"))]
