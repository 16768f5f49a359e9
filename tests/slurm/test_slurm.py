"""A real SLURM: a grid of 8 jobs, two of them preempted, one killed with -9, its node drained and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, run_job
from safetensors.torch import load_file
from server import Server, UnavailableError

pytestmark = pytest.mark.slow
LONGER = ("training.epochs=25", "finetune.epochs=25")
WORDS = (*(word for word in TINY if not word.startswith(("training", "finetune"))), *LONGER)
GRID = ("pruner=magnitude,random", "ratio=0.5,0.8", "seed=0,1")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("slurm"))
    try:
        server.start()
    except UnavailableError as why:
        pytest.skip(f"no SLURM can be started here: {why}")
    yield server
    server.stop()


class Told:
    """What was seen of SLURM meanwhile, kept in the file that ``ADVPRUNE_TRANSCRIPT`` names."""

    def __init__(self, slurm: Server) -> None:
        self.slurm, self.path = slurm, os.environ.get("ADVPRUNE_TRANSCRIPT")

    def say(self, text: str) -> None:
        if self.path:
            with Path(self.path).open("a") as file:
                file.write(f"[{time.strftime('%H:%M:%S')}] {text.rstrip()}\n")

    def ask(self, *command: str) -> str:
        out = self.slurm.ask(*command)
        self.say(f"$ {' '.join(command)}\n{out}")
        return out


def until(holds: Callable[[], Any], what: str, seconds: float = 1800) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def command(folder: Path, name: str, *words: str) -> list[str]:
    places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/{name}")
    launcher = (
        "hydra/launcher=slurm",
        "hydra.launcher.partition=debug",
        "hydra.launcher.timeout_min=20",
        "hydra.launcher.poll_s=1",
        "hydra.launcher.cpus_per_task=1",
    )
    return [sys.executable, "prune.py", "-m", *WORDS, *GRID, *places, *launcher, *words]


def environment(slurm: Server) -> dict[str, str]:
    return slurm.environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def training(grid: Path, done: set[int]) -> tuple[int, dict[str, Any]] | None:
    """A job that is in the middle of a training phase of its own right now, and was not yet picked."""
    for path in sorted(grid.glob("*/job.json")):
        record = json.loads(path.read_text())
        curves = path.parent / "metrics.csv"
        if "pid" not in record or record["number"] in done or not curves.exists():
            continue
        last = (curves.read_text().splitlines() or [","])[-1].split(",")
        if (
            last[1] not in ("", "epoch") and time.time() - curves.stat().st_mtime < 2
        ):  # a point of a curve, just now
            return record["number"], record
    return None


def test_a_grid_survives(slurm: Server, tmp_path: Path) -> None:
    told, grid, hit = Told(slurm), tmp_path / "first", set[int]()
    with (tmp_path / "out").open("w") as out:
        grid_process = subprocess.Popen(
            command(tmp_path, "first"),
            cwd=ROOT,
            env=environment(slurm),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        until(
            lambda: (tmp_path / "first" / "slurm").exists() and "prune" in slurm.ask("squeue"),
            "the array",
        )
        told.ask("squeue")
        array = re.findall(
            r"to SLURM as (\d+)",
            until(lambda: (tmp_path / "out").read_text(), "the array's number"),
        )[0]
        for name in ("USR1", "TERM"):
            number, _ = until(lambda: training(grid, hit), f"a job to send {name}")
            hit.add(number)
            told.say(f"preempt job {number}: SIG{name}")
            slurm.begin(
                "scancel", f"--signal={name}", f"{array}_{number}"
            )  # which waits until the job has gone
            until(
                lambda n=number: (
                    "Restarts=1" in slurm.ask("scontrol", "show", "job", "-o", f"{array}_{n}")
                ),
                "requeue",
            )
            told.ask("squeue")
        preempted = set(hit)
        number, record = until(lambda: training(grid, hit), "a job to kill")
        hit.add(number)
        told.say(f"kill -9 {record['pid']}, which is job {number}")
        os.kill(record["pid"], signal.SIGKILL)
        told.ask("scontrol", "update", f"nodename={slurm.host}", "state=drain", "reason=test")
        until(lambda: "RUNNING" not in slurm.ask("squeue", "--format=%T"), "the node to be empty")
        told.ask("sinfo")
        told.ask("squeue")
        told.ask("scontrol", "update", f"nodename={slurm.host}", "state=resume")
        assert grid_process.wait(2400) == 1
    finally:
        grid_process.kill()
        told.say((tmp_path / "out").read_text())
        told.ask("scontrol", "show", "job", "-o")
    printed = (tmp_path / "out").read_text()
    killed = rf"job {number + 1} of 8: .*killed by signal 9 \(SIGKILL\)"  # people count from 1
    assert re.search(killed, printed), printed
    assert "1 of 8 jobs failed; the same command tries only those again" in printed
    assert len(json.loads((grid / "table.json").read_text())) == 7

    again = subprocess.run(
        command(tmp_path, "second"),
        cwd=ROOT,
        env=environment(slurm),
        capture_output=True,
        text=True,
        timeout=2400,
    )
    told.say(again.stdout)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "submitted 1 jobs to SLURM" in again.stdout
    rows = json.loads((tmp_path / "second" / "table.json").read_text())
    assert Counter((row["pruner"], row["ratio"], row["seed"]) for row in rows) == Counter(
        (pruner, ratio, seed)
        for pruner in ("magnitude", "random")
        for ratio in (0.5, 0.8)
        for seed in (0, 1)
    )
    journal = [
        json.loads(line)
        for line in (tmp_path / "stages" / "journal.jsonl").read_text().splitlines()
    ]
    made = Counter(line["key"] for line in journal if line["event"] == "made")
    assert set(made.values()) == {1}
    _as_one_left_alone(tmp_path, rows[min(preempted)])


def _as_one_left_alone(folder: Path, row: dict[str, Any]) -> None:
    """A preempted job ends with the same bits as one that was not."""
    words = (*WORDS, f"pruner={row['pruner']}", f"ratio={row['ratio']}", f"seed={row['seed']}")
    alone = run_job(folder / "alone", "prune", words, folder / "alone" / "stages")["row"]
    assert alone["robust_acc"] == row["robust_acc"]
    for stage in ("dense", "finetuned"):
        expected, found = (
            load_file(Path(r["files"][stage]) / "model.safetensors") for r in (alone, row)
        )
        assert {name: value.numpy().tobytes() for name, value in expected.items()} == {
            name: value.numpy().tobytes() for name, value in found.items()
        }


def test_a_partition_that_is_not_there(slurm: Server, tmp_path: Path) -> None:
    refused = subprocess.run(
        command(tmp_path, "grid", "hydra.launcher.partition=nosuch"),
        cwd=ROOT,
        env=environment(slurm),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert refused.returncode == 1
    sentence = "error: SLURM refused the jobs: sbatch: error: invalid partition specified: nosuch"
    assert any(line.startswith(sentence) for line in refused.stderr.splitlines())
    assert "Traceback" not in refused.stderr


def test_a_cancelled_job_does_not_come_back(slurm: Server, tmp_path: Path) -> None:
    left = subprocess.run(
        command(
            tmp_path,
            "grid",
            "hydra.launcher.wait=false",
            "training.epochs=4000",
            "ratio=0.5",
            "seed=0",
        ),
        cwd=ROOT,
        env=environment(slurm),
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert left.returncode == 0, left.stderr
    assert "2 of 2 jobs have not ended yet" in left.stdout
    (array,) = re.findall(r"to SLURM as (\d+)", left.stdout)
    until(lambda: training(tmp_path / "grid", set()), "a job to cancel")
    slurm.ask("scancel", array)
    until(lambda: not slurm.ask("squeue", "--noheader").strip(), "an empty queue")
    assert list(tmp_path.glob("stages/dense/*/work/last.ckpt"))  # it saved before it went
    time.sleep(3)
    assert not slurm.ask("squeue", "--noheader").strip()
