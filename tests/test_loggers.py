"""What loggers are told and keep: the same names, one W&B run a job, read back by `wandb sync`; and their failures."""

import csv
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from wandb_server import KEY, WandbServer

from advprune.errors import UserError
from advprune.tracking import wandb_login
from advprune.tracking.logger import CsvFile, Finished, Job, Logger, Loggers, numbers
from advprune.tracking.tensorboard_events import TensorBoardEvents
from advprune.tracking.wandb_run import WandbRun

ID = "0123456789abcdef"
ROW = {
    "pruner": "hydra",
    "robust_acc": 0.5,
    "robust_acc_interval": [0.4, 0.6],
    "made": 2,
    "kept": None,
}
NUMBERS = {"robust_acc", "robust_acc_low", "robust_acc_high", "made"}
CURVES = {f"pruned/{name}" for name in ("epoch", "step", "loss", "sparsity", "mask_turnover")}


@pytest.fixture(autouse=True)
def _no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def a_job(folder: Path) -> Job:
    return Job(
        id=ID,
        name="hydra 0.9",
        group="prune ratio=0.9,0.99",
        kind="prune",
        tags=["hydra"],
        output=folder / "job",
        config={"pruner": "hydra", "final": "pruned"},
        shared=folder,
        stages=["pruned", "evaluated"],
    )


def a_stage(folder: Path) -> Finished:
    from PIL import Image

    at = folder / "stage"
    at.mkdir(exist_ok=True)
    Image.new("L", (8, 8), 128).save(at / "examples.png")
    for name in ("result.json", "model.safetensors"):
        (at / name).write_text("{}")
    return Finished("pruned", at, {"layers": {"conv.weight": 0.75}, "images": 3})


def tell(logger: Logger, folder: Path, *, epochs: int = 3) -> None:
    """A small job's story, whole."""
    logger.open(a_job(folder))
    logger.begin()
    for epoch in range(1, epochs + 1):
        row = {"loss": 1 / epoch, "sparsity": 0.9, "mask_turnover": 0.1}
        logger.point("pruned", {"epoch": epoch, "step": 10 * epoch, **row})
    logger.finished(a_stage(folder))
    logger.result(ROW, [a_stage(folder)])
    logger.close(failed=False)


def wandb_run(**options: Any) -> WandbRun:
    default = {
        "project": "p",
        "entity": None,
        "mode": None,
        "group": None,
        "folder": None,
        "checkpoints": False,
    }
    return WandbRun(**(default | options))


def test_a_run_that_is_disabled_takes_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a grid does not say that it was logged."""
    assert not wandb_run(mode="disabled").takes_grids
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert not wandb_run().takes_grids
    assert wandb_run(mode="offline").takes_grids


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


def sync(folder: Path, server: WandbServer) -> str:
    """What a user does later; wandb's own reader reads what was written offline."""
    command = [str(Path(sys.executable).with_name("wandb")), "sync", "--yes", str(folder)]
    environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
    ran = subprocess.run(
        command,
        env=environment,
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def names_in_csv(path: Path) -> set[str]:
    with path.open() as file:
        return {line["name"] for line in csv.DictReader(file)}


def test_csv_and_tensorboard_have_the_same_names(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for logger in (CsvFile(), TensorBoardEvents()):
        tell(logger, tmp_path)
    scalars = EventAccumulator(str(tmp_path / "job" / "tensorboard")).Reload()
    expected = NUMBERS | CURVES - {"pruned/step", "pruned/epoch"} | {"sparsity/pruned/conv.weight"}
    assert names_in_csv(tmp_path / "job" / "metrics.csv") == expected
    assert set(scalars.Tags()["scalars"]) == expected | {"pruned/epoch"}
    assert scalars.Tags()["images"] == ["examples/pruned"]
    assert [(event.step, event.value) for event in scalars.Scalars("pruned/sparsity")] == [
        (step, pytest.approx(0.9)) for step in (10, 20, 30)
    ]


def test_an_offline_run_arrives_whole(tmp_path: Path, server: WandbServer) -> None:
    tell(wandb_run(checkpoints=True), tmp_path)
    sync(tmp_path / "wandb", server)
    assert list(server.runs) == [ID]
    run = server.runs[ID]
    assert (run["group"], run["kind"]) == ("prune ratio=0.9,0.99", "prune")
    assert run["config"]["pruner"]["value"] == "hydra"
    curves = [row for row in server.history(ID) if "pruned/loss" in row]
    assert [(row["pruned/epoch"], row["pruned/loss"]) for row in curves] == [
        (n, pytest.approx(1 / n)) for n in (1, 2, 3)
    ]
    assert {name for name in curves[0] if not name.startswith("_")} == CURVES
    axes = _axes(run["config"]["_wandb"]["value"]["m"])
    assert axes["pruned/*"] == "pruned/epoch"
    assert run["summary"]["robust_acc_high"] == 0.6
    assert run["summary"]["sparsity/pruned/conv.weight"] == 0.75
    assert run["summary"]["table"]["nrows"] == 1
    assert any(name.startswith("media/images/examples/pruned") for name in server.files)
    assert {("result", f"result-{ID}"), ("model", f"network-{ID}")} <= set(server.artifacts)


def _axes(metrics: list[dict[str, Any]]) -> dict[str, str]:
    """By glob its axis, out of wandb's records: 1 a name, 2 a glob, 5 the place of the axis, from 1."""
    return {m["2"]: metrics[m["5"] - 1]["1"] for m in metrics if "2" in m and "5" in m}


def test_a_later_attempt_tells_the_run_whole(tmp_path: Path, server: WandbServer) -> None:
    """The first is killed, its file is cut short; the second is all there is to send."""
    script = (
        "import sys, os, signal; sys.path[:0] = ['tests', 'src']; import test_loggers as t; from pathlib import Path\n"
        f"job = Path({str(tmp_path)!r}); logger = t.wandb_run(); logger.open(t.a_job(job))\n"
        "logger.point('pruned', {'epoch': 1, 'step': 10, 'loss': 1.0}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    own = {
        name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"
    }  # not this process's helper
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=own, check=False, timeout=1200
    )
    assert killed.returncode == -signal.SIGKILL
    (broken,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    time.sleep(1.1)  # names of runs have seconds
    tell(wandb_run(), tmp_path)
    (only,) = tmp_path.glob("wandb/offline-run-*")
    assert only != broken.parent
    assert (tmp_path / "wandb" / "replaced" / broken.parent.name / broken.name).exists()
    sync(tmp_path / "wandb", server)
    assert list(server.runs) == [ID]
    assert [row["pruned/epoch"] for row in server.history(ID) if "pruned/loss" in row] == [1, 2, 3]


def test_a_run_killed_at_once_does_not_stop_the_sync(tmp_path: Path, server: WandbServer) -> None:
    """One file without a record and wandb sends none; the next job's end puts it away, unless its process lives."""
    from filelock import FileLock

    tell(wandb_run(), tmp_path)
    for identity in ("dead", "alive"):
        run = tmp_path / "wandb" / f"offline-run-20200101_000000-{identity}"
        run.mkdir()
        (run / f"run-{identity}.wandb").write_bytes(b":W&B\xcb\xee\x00")
        os.utime(run / f"run-{identity}.wandb", (0, 0))
    sync(tmp_path / "wandb", server)
    assert (
        not server.runs
    )  # if this fails, wandb has learnt to step over such files, and we need not move them
    with FileLock(tmp_path / "wandb" / "locks" / "alive.lock"):
        logger = wandb_run()
        logger.open(a_job(tmp_path))
        logger.close(failed=False)
    left = {run.name.split("-")[-1] for run in tmp_path.glob("wandb/offline-run-*")}
    assert left == {ID, "alive"}
    (tmp_path / "wandb" / "offline-run-20200101_000000-alive" / "run-alive.wandb").unlink()
    sync(tmp_path / "wandb", server)
    assert list(server.runs) == [ID]


def test_a_grid_tells_its_table(tmp_path: Path, server: WandbServer) -> None:
    logger = wandb_run()
    logger.open(a_job(tmp_path))
    (tmp_path / "table.csv").write_text("robust_acc\n0.5\n")
    logger.grid([ROW, ROW | {"robust_acc": 0.25}], [tmp_path / "table.csv"])
    logger.close(failed=False)
    sync(tmp_path / "wandb", server)
    assert ("table", f"table-{ID}") in server.artifacts
    assert server.runs[ID]["summary"]["table"]["nrows"] == 2
    logger = wandb_run()
    logger.open(a_job(tmp_path))
    logger.grid([ROW, ROW | {"robust_acc": 0.25}], [tmp_path / "table.csv"])
    assert logger.run is None  # told before
    logger.close(failed=False)


def test_what_is_known_is_not_told_again(tmp_path: Path) -> None:
    tell(wandb_run(), tmp_path)
    for row, options, known in (
        (ROW | {"made": 0}, {}, True),
        (ROW | {"robust_acc": 0.6}, {}, False),
        (ROW, {"project": "q"}, False),
    ):
        logger = wandb_run(**options)
        logger.open(a_job(tmp_path))
        assert logger.knows(row) is known
        logger.close(failed=False)
    for run in tmp_path.glob("wandb/offline-run-*"):
        run.rename(tmp_path / "elsewhere")
    logger = wandb_run()
    logger.open(a_job(tmp_path))
    assert not logger.knows(ROW)
    logger.close(failed=False)


def test_disabled_is_nothing_at_all(tmp_path: Path) -> None:
    tell(wandb_run(mode="disabled"), tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_damaged_curves_are_said_and_the_rest_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from advprune.pipeline.job_log import CURVES, replay

    stage = a_stage(tmp_path)
    (stage.folder / CURVES).write_text('{"work": [{"epo')
    logger = CsvFile()
    logger.open(a_job(tmp_path))
    replay(stage, logger)
    logger.close(failed=False)
    assert names_in_csv(tmp_path / "job" / "metrics.csv") == {"sparsity/pruned/conv.weight"}
    assert "curves.json is damaged" in caplog.text


def test_a_second_process_leaves_the_run_to_the_first(tmp_path: Path) -> None:
    first, second = wandb_run(), wandb_run()
    first.open(a_job(tmp_path))
    tell(second, tmp_path)
    assert not list(tmp_path.glob("wandb/*run-*"))
    first.close(failed=False)


def test_online_if_there_is_a_key_and_an_answer(
    tmp_path: Path, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    import wandb

    wandb.teardown()  # it asks the environment once a process
    for epochs in (2, 3):  # the second attempt takes the place of the first, line by line
        tell(wandb_run(), tmp_path, epochs=epochs)
        assert list(server.runs) == [ID]
        assert [row["pruned/epoch"] for row in server.history(ID) if "pruned/loss" in row] == list(
            range(1, epochs + 1)
        )


@pytest.mark.parametrize(
    ("key", "silent", "wanted", "said"),
    [
        (None, False, None, None),
        (None, False, "online", "no API key"),
        (KEY, False, None, "does not answer"),
        (KEY, True, "online", "does not answer"),
        (KEY, True, "offline", None),
    ],
)
def test_without_a_network_it_is_offline_at_once(
    key: str | None,
    silent: bool,
    wanted: str | None,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port nobody listens on, and one that takes a call and never says a word."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        if silent:
            mute.listen()
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setattr(wandb_login, "PATIENCE", 0.5)
        begun = time.monotonic()
        mode, reason = wandb_login.mode(wanted, f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert time.monotonic() - begun < 2
    assert mode == "offline"
    assert (reason is None) if said is None else said in str(reason)


def test_a_failing_logger_does_not_fail_the_job(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    class Broken(Logger):
        calls = 0

        def point(self, stage: str, row: dict[str, float]) -> None:
            self.calls += 1
            raise OSError(28, "No space left on device")

    broken = Broken()
    with caplog.at_level(logging.WARNING):
        tell(Loggers([broken]), tmp_path)
    assert broken.calls == 1
    (record,) = caplog.records
    assert "No space left on device" in record.getMessage()
    assert "the job goes on without it" in record.getMessage()


def test_a_logger_that_is_not_installed_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install"):
        Loggers([TensorBoardEvents()]).open(a_job(tmp_path))


def test_intervals_are_two_numbers() -> None:
    assert numbers(
        {"a": 1, "b": "x", "c": True, "d_interval": [0.1, 0.2], "e_interval": None}, "s/"
    ) == {"s/a": 1, "s/d_low": 0.1, "s/d_high": 0.2}


@pytest.mark.slow
def test_a_grid_of_two_jobs_is_three_runs(tmp_path: Path) -> None:
    """One a job, and one of type grid with their table; offline, a folder each."""
    words = ("pruner=magnitude,random", "ratio=0.9", *TINY, "logger=wandb")
    places = (f"store={tmp_path}/stages", f"hydra.sweep.dir={tmp_path}/grid")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "prune.py", "-m", *words, *places],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "logged 2 runs, one a job, and one more of type grid" in done.stdout
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 3
