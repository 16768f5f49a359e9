"""What the machine does to a run: a full disk, a place that cannot be written, Ctrl-C."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY

from advprune.modules.weights_io import AtomicCheckpoint, load_weights, save_weights


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes; Python ignores the signal and sees the error."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_leaves_the_previous_file(tmp_path: Path) -> None:
    """The system refuses what is longer than it allows; nothing but the files that were there is left."""
    weights, checkpoint = tmp_path / "model.safetensors", tmp_path / "last.ckpt"
    save_weights(weights, {"w": torch.ones(3)})
    AtomicCheckpoint().save_checkpoint({"w": torch.ones(3)}, checkpoint)
    with files_up_to(20):
        with pytest.raises(OSError, match="File too large"):
            save_weights(weights, {"w": torch.zeros(3)})
        with pytest.raises(OSError, match="File too large"):
            AtomicCheckpoint().save_checkpoint({"w": torch.zeros(3)}, checkpoint)
    assert load_weights(weights)["w"].tolist() == [1, 1, 1]
    assert AtomicCheckpoint().load_checkpoint(checkpoint)["w"].tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "model.safetensors"]


def test_a_full_disk_is_a_sentence(
    job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, weights: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("advprune.stages.dense.save_weights", full)
        out = job(*TINY, "pruner=magnitude", "ratio=0.5")
    assert "the disk is full: " in out["failed"]
    assert "last.safetensors" in out["failed"]
    assert "failed" not in job(*TINY, "pruner=magnitude", "ratio=0.5")


def test_a_place_that_cannot_be_written_is_a_sentence(job: Any) -> None:
    if not Path("/sys").is_dir():
        pytest.skip("needs /sys, where nobody may make a folder")
    out = job(*TINY, store="/sys/advprune")
    assert out["failed"].startswith("no permission to write /sys/advprune")
    assert "store=FOLDER" in out["failed"]


def test_ctrl_c_is_a_clean_line(tmp_path: Path) -> None:
    places = (f"store={tmp_path}/stages", f"hydra.run.dir={tmp_path}/run")
    command = [sys.executable, "prune.py", *TINY, "training.epochs=4000", *places]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background ignores it
    )
    deadline = time.monotonic() + 1200
    while not list(tmp_path.glob("stages/dense/*/work/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=1200)
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "interrupted; the same command goes on where it was"
    assert "Traceback" not in err
