"""Asked to stop in the middle of an epoch: saved there, and the same command ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY
from safetensors.torch import load_file

from advprune.datasets.images import Split
from advprune.datasets.loader import TrainLoader
from advprune.modules.training import RobustTraining
from advprune.runtime import preemption


@pytest.fixture
def listening() -> Iterator[None]:
    """This process hears the signals, and pytest has its own handlers back afterwards."""
    before = {number: signal.getsignal(number) for number in preemption.SIGNALS}
    preemption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    preemption._listener.__init__()  # type: ignore[misc]


def test_a_signal_is_put_off_and_not_lost(listening: None) -> None:
    done = []

    def work() -> None:
        with preemption.postponed():
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            done.append(preemption.asked())

    with pytest.raises(preemption.Stopped, match=r"^stopped by SIGUSR1; ") as caught:
        work()
    assert done == [signal.SIGUSR1]
    assert caught.value.exit_code == 128 + signal.SIGUSR1


def test_outside_training_a_signal_stops_at_once(listening: None) -> None:
    with pytest.raises(preemption.Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_rank_heeds_the_first_ctrl_c_only() -> None:
    before = signal.getsignal(signal.SIGINT)
    preemption.interrupt_once()
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # passed on by whoever started the rank
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_loader_goes_on_within_its_epoch(repeats: int) -> None:
    images = torch.arange(11, dtype=torch.uint8).view(11, 1, 1, 1)

    def make() -> TrainLoader:
        return TrainLoader(Split(images, torch.arange(11)), batch_size=3, seed=0, repeats=repeats)

    whole = [y.tolist() for _, y in make()]
    assert len(whole) == len(make()) == 4 * repeats
    for stop in range(1, len(whole)):
        first, second = make(), make()
        batches = iter(first)
        begun = [next(batches)[1].tolist() for _ in range(stop)]
        second.load_state_dict(first.state_dict())
        assert begun + [y.tolist() for _, y in second] == whole
    assert second.state_dict() == {"given": 0}  # at its end: the next epoch is a whole one
    assert [y.tolist() for _, y in second] == whole


def contents(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): {
            name: value.numpy().tobytes() for name, value in load_file(path).items()
        }
        for path in sorted(folder.glob("*/*/*.safetensors"))
    }


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (6, ("objective.attack.steps=2", "training.ema=0.9")),
        (
            3,
            (
                "objective=free",
                "pruner=magnitude",
                "pruner.schedule=linear",
                "pruner.rounds=2",
                "pruner.epochs_per_round=4",
            ),
        ),
    ],
)
def test_stopped_within_each_phase_it_ends_the_same(
    job: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listening: None,
    epochs: int,
    words: tuple[str, ...],
) -> None:
    options = [o for o in TINY if not o.startswith("objective")]
    alone = job(*options, *words, "ratio=0.5", store=tmp_path / "alone")
    assert "failed" not in alone, alone["failed"]
    original = RobustTraining.training_step
    stops: list[tuple[str, int]] = []

    def step(module: RobustTraining, batch: Any, index: int) -> Any:
        phase = f"{type(module).__name__} {module.trainer.callbacks[0].__dict__.get('path')}"
        place = (phase, module.current_epoch)
        if index == 0 and place not in stops:
            stops.append(place)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(module, batch, index)

    monkeypatch.setattr(RobustTraining, "training_step", step)
    for _ in range(20):
        preemption.listen()
        try:
            ended = job(*options, *words, "ratio=0.5", store=tmp_path / "stopped")
            break
        except preemption.Stopped:
            continue
    assert "failed" not in ended, ended["failed"]
    assert (
        len(stops) == epochs
    )  # of all phases; free adversarial training has fewer, and longer ones
    assert contents(tmp_path / "stopped") == contents(tmp_path / "alone")
    assert ended["row"]["robust_acc"] == alone["row"]["robust_acc"]


@pytest.mark.slow
def test_a_command_that_is_asked_to_stop_says_so(tmp_path: Path) -> None:
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
    )
    deadline = time.monotonic() + 1200
    while not list(tmp_path.glob("stages/dense/*/work/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(200):  # a cluster's batch script and its step each send one
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.005)
    _, err = process.communicate(timeout=1200)
    assert process.returncode == 128 + signal.SIGUSR1, err
    assert (
        err.strip().splitlines()[-1] == "stopped by SIGUSR1; the same command goes on where it was"
    )
    assert "Traceback" not in err
    assert "row" not in json.loads((tmp_path / "run" / "job.json").read_text())
