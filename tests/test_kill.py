"""kill -9 in each stage, at its beginning and at a random instant; the same command again ends as a run left alone, to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

STAGES = ("dense", "pruned", "finetuned", "evaluated")
COMMAND = (
    "prune.py",
    "ratio=0.9",
    "model.widths=[8,8,8]",
    "training.epochs=8",
    "search.epochs=6",
    "finetune.epochs=8",
    "training.ema=0.9",
    "attack.steps=100",
    "attack.restarts=3",
    "attack.batch_size=32",
    "select.steps=4",
    "trainer=cpu",
)


def start(folder: Path) -> subprocess.Popen[bytes]:
    places = (f"store={folder}/stages", f"hydra.run.dir={folder}/run")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *COMMAND, *places], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


def finish(folder: Path) -> None:
    assert start(folder).wait(1800) == 0, (folder / "log").read_text()


def stage_folder(folder: Path, stage: str) -> Path | None:
    found = sorted((folder / "stages" / stage).glob("*/"), key=lambda path: path.stat().st_ctime)
    return found[-1] if found else None


def kill_in(folder: Path, stage: str, after: float) -> bool:
    """Start the command, kill it ``after`` seconds into the stage; whether the stage was then unfinished."""
    process = start(folder)
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        at = stage_folder(folder, stage)
        begun = (
            at is not None
            and (at / "config.yaml").exists()
            and (at / "config.yaml").stat().st_mtime > process_start(process)
        )
        if begun or process.poll() is not None:
            break
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait(600)
    at = stage_folder(folder, stage)
    return at is not None and not (at / "complete").exists()


def process_start(process: subprocess.Popen[bytes]) -> float:
    return Path(f"/proc/{process.pid}").stat().st_ctime if process.poll() is None else 0.0


def contents(folder: Path) -> dict[str, object]:
    out: dict[str, object] = {}
    for path in sorted((folder / "stages").glob("*/*/*.safetensors")):
        tensors = load_file(path)
        out[str(path.relative_to(folder))] = {
            name: tensor.numpy().tobytes() for name, tensor in tensors.items()
        }
    for path in sorted((folder / "stages").glob("*/*/records.parquet")):
        out[str(path.relative_to(folder))] = pd.read_parquet(path).to_json()
    return out


def test_a_killed_run_ends_as_one_left_alone(tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    finish(alone)
    seconds = {
        path.parts[-3]: json.loads(path.read_text())["seconds"]
        for path in alone.glob("stages/*/*/result.json")
    }
    instants, caught = random.Random(0), dict.fromkeys(STAGES, 0)
    for stage in STAGES:
        # the first is in time also on a machine that has become much faster meanwhile
        for share in (0.0, instants.uniform(0.05, 0.8)):
            caught[stage] += kill_in(killed, stage, share * seconds[stage])
    finish(killed)
    print(f"kills that hit an unfinished stage: {caught}; stage seconds: {seconds}")  # noqa: T201 - shown with -s
    assert all(caught.values()), caught
    expected, found = contents(alone), contents(killed)
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name] == found[name], name
