"""Whole jobs on several ranks, however they were started; killed in part and as a whole; beside others on one store."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY, run_job
from safetensors.torch import load_file
from test_keys import OPTIONS, keys

from advprune.config.options import options_of
from advprune.distributed import environment
from advprune.distributed.environment import Trainer
from advprune.errors import UserError
from advprune.pipeline.plan import plan_pruned
from advprune.store.keys import key

TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
SMALL = (*TINY, "attack.batch_size=32", "ratio=0.5")


def tensors(store: Path, pattern: str) -> dict[str, dict[str, torch.Tensor]]:
    return {str(path.relative_to(store)): load_file(path) for path in sorted(store.glob(pattern))}


def records(store: Path) -> dict[str, pd.DataFrame]:
    return {
        path.parent.name: pd.read_parquet(path)
        for path in sorted(store.glob("evaluated/*/records.parquet"))
    }


def made(store: Path) -> Counter[str]:
    lines = [json.loads(line) for line in (store / "journal.jsonl").read_text().splitlines()]
    return Counter(line["key"] for line in lines if line["event"] == "made")


def test_two_ranks_make_what_one_makes(job: Any, tmp_path: Path) -> None:
    one, two, mixed = tmp_path / "one", tmp_path / "two", tmp_path / "mixed"
    alone = job(*SMALL, store=one)
    shutil.copytree(one, mixed, ignore=shutil.ignore_patterns("evaluated"))
    together, judged = (job(*SMALL, *TWO, store=store) for store in (two, mixed))
    assert not any("failed" in out for out in (alone, together, judged))
    assert (alone["row"]["made"], together["row"]["made"], judged["row"]["made"]) == (5, 5, 2)
    # the same networks judged: every image the same, in its order, and each attacked once
    for name, frame in records(one).items():
        pd.testing.assert_frame_equal(records(mixed)[name], frame)
        assert frame["image"].is_unique
    # trained together: the same keys, the same masks, weights equal to rounding (exactly so in
    # test_ranks.py)
    masks = tensors(one, "*/*/masks.safetensors")
    assert masks.keys() == tensors(two, "*/*/masks.safetensors").keys()
    for path, found in tensors(two, "*/*/m*.safetensors").items():
        for name, value in tensors(one, "*/*/m*.safetensors")[path].items():
            assert torch.allclose(found[name].float(), value.float(), rtol=0, atol=2e-3), (
                path,
                name,
            )
    result = {path.parts[-3]: json.loads(path.read_text()) for path in two.glob("*/*/result.json")}
    assert [
        (kind, result[kind].get("ranks"), result[kind].get("batch_norm")) for kind in sorted(result)
    ] == [
        ("dense", 2, "synchronised"),
        ("evaluated", 2, None),
        ("finetuned", 2, "synchronised"),
        ("pruned", 2, "synchronised"),
    ]
    assert set(made(two).values()) == {1}


def test_a_sentence_comes_from_the_rank_to_the_table(job: Any) -> None:
    out = job(*SMALL, *TWO, "training.learning_rate=1e30", "training.epochs=3")
    assert out["failed"].startswith("the loss is ")
    assert "lower the learning rate" in out["failed"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"devices": None, "batch_norm": "local"}, "give trainer.devices=…, too"),
        ({"devices": 2, "nodes": 2}, "trainer.nodes=2, but only one process was started"),
    ],
)
def test_the_door(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        environment.check(Trainer(**options))


def test_a_rank_without_images_keeps_nobody_waiting(job: Any, tmp_path: Path) -> None:
    few = (*TINY, "attack.images=16", "attack.batch_size=16", "select.images=8")
    alone, together = (
        job(*few, *words, command="train", store=tmp_path / name)
        for name, words in (("one", ()), ("two", TWO))
    )
    assert "failed" not in together
    assert together["row"]["images"] == alone["row"]["images"] == 16


def test_more_devices_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        UserError,
        match=r"^trainer.devices=4 is not possible: this machine has 2 GPUs; give at most 2",
    ):
        environment.with_device_count(Trainer(accelerator="auto", devices=4))
    assert environment.with_device_count(Trainer(accelerator="cuda", devices=None)).devices == 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"needs a GPU that torch can use"):
        environment.with_device_count(Trainer(accelerator="cuda", devices=2))
    with pytest.raises(UserError, match=r"no GPU to count"):
        environment.with_device_count(Trainer(accelerator="auto", devices=None))
    assert environment.with_device_count(Trainer(accelerator="cpu", devices=3)).devices == 3


def test_who_started_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.launched_world() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert environment.launched_world() == (0, 1)  # a batch script that forgot srun
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert environment.launched_world() == (3, 4)
    with pytest.raises(
        UserError, match=r"4 processes were started for this job, but trainer.devices=1"
    ):
        environment.check(Trainer(devices=1, nodes=1))
    environment.check(Trainer(devices=2, nodes=2))


def test_ranks_are_in_the_key_only_where_the_result_depends_on_them() -> None:
    def spread(**trainer: Any) -> dict[str, str]:
        return keys(OPTIONS | {"trainer": trainer})

    assert (
        spread(devices=8, nodes=2) == spread(devices=8, batch_norm="synchronised") == keys(OPTIONS)
    )
    assert spread(devices=1, batch_norm="local") == keys(OPTIONS)
    two, four, rank0 = (
        spread(devices=n, batch_norm=b) for n, b in ((2, "local"), (4, "local"), (2, "rank0"))
    )
    for name in keys(OPTIONS):
        assert len({keys(OPTIONS)[name], two[name], four[name], rank0[name]}) == 4, name
    local = {"devices": 2, "batch_norm": "local"}
    plan = plan_pruned(options_of(OPTIONS | {"trainer": local}))
    assert plan.final.parent is not None
    # scored once, not trained: its parent's key says it
    assert "batch_norm" not in plan.final.parent.record
    assert key("dense", plan.dense.record, None) == plan.dense.key


def start(
    folder: Path, *words: str, before: tuple[str, ...] = (), **environment: str
) -> subprocess.Popen[str]:
    """The command in a group of its own, its outputs in ``folder``."""
    places = (
        f"store={folder}/stages",
        f"hydra.run.dir={folder}/run",
        f"hydra.sweep.dir={folder}/grid",
    )
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")} | environment
    return subprocess.Popen(
        [sys.executable, *before, "prune.py", *SMALL, *places, *words],
        cwd=ROOT,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], code: int = 0, seconds: float = 1500) -> str:
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


def rank_processes(command: int) -> list[int]:
    """The ranks are forked off a server, which the command started; the first one is rank 0."""
    return [rank for server in children(command) for rank in children(server)]


def wait_for(condition: Any, seconds: float = 1500) -> Any:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


LONG = (*TWO, "training.epochs=20", "pruner=magnitude", "finetune.epochs=4")


def checkpointed(store: Path) -> bool:
    return bool(list(store.glob("dense/*/work/last.ckpt")))


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a job that nobody disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    assert "failed" not in run_job(folder, "prune", (*SMALL, *LONG), folder / "stages")
    return folder / "stages"


def same_bits(found: Path, expected: Path) -> None:
    """Of every mask and weight."""
    stores = [tensors(store, "*/*/*.safetensors") for store in (found, expected)]
    assert stores[0].keys() == stores[1].keys()
    for path, there in stores[1].items():
        assert all(torch.equal(stores[0][path][name], value) for name, value in there.items()), path


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_an_attempt(
    job: Any, left_alone: Path, tmp_path: Path, caplog: Any
) -> None:
    killed = []

    def kill() -> None:
        wait_for(lambda: checkpointed(tmp_path / "stages"))
        killed.append(wait_for(lambda: rank_processes(os.getpid()))[-1])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    out = job(*SMALL, *LONG)
    killer.join()
    assert "failed" not in out
    assert (
        "rank 1 of 2 was killed (SIGKILL) and the others were stopped; all ranks start again"
        in caplog.text
    )
    same_bits(tmp_path / "stages", left_alone)


@pytest.mark.slow
def test_a_command_that_is_killed_takes_its_ranks_along(
    job: Any, left_alone: Path, tmp_path: Path
) -> None:
    killed = start(tmp_path, *LONG)
    wait_for(lambda: checkpointed(tmp_path / "stages"))
    ranks = rank_processes(killed.pid)
    assert len(ranks) == 2
    killed.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), 600)
    ended(killed, -signal.SIGKILL)
    assert "failed" not in job(*SMALL, *LONG)
    same_bits(tmp_path / "stages", left_alone)


@pytest.mark.slow
def test_ctrl_c_ends_all_ranks_with_a_line(tmp_path: Path) -> None:
    process = start(tmp_path, *TWO, "training.epochs=4000")
    wait_for(lambda: list(tmp_path.glob("stages/dense/*/work/last.ckpt")))
    ranks = rank_processes(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    for _ in range(200):  # the engine passes it on to ranks that are already ending, at any instant
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, signal.SIGINT)
        time.sleep(0.005)
    said = ended(process, 130)
    assert said.strip().splitlines()[-1] == "interrupted; the same command goes on where it was"
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


@pytest.mark.slow
def test_a_grid_under_torchrun_is_one_grid(tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    said = ended(start(tmp_path, *TWO, "pruner=magnitude,random", "-m", before=launcher))
    rows = json.loads((tmp_path / "grid" / "table.json").read_text())
    assert len(rows) == 2
    assert said.count("made 8 stages") == 1, said
    assert set(made(tmp_path / "stages").values()) == {1}
    assert sorted(path.name for path in (tmp_path / "grid").iterdir() if path.is_dir()) == [
        "0",
        "1",
    ]


@pytest.mark.slow
def test_tasks_of_srun_meet(tmp_path: Path) -> None:
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0",
    }
    tasks = [
        start(tmp_path, *TWO, "pruner=magnitude", SLURM_PROCID=str(n), SLURM_LOCALID=str(n), **step)
        for n in (1, 0)
    ]
    said = [ended(task) for task in tasks]
    assert "made 5 stages" in said[1]
    assert said[0].strip() == ""
    assert set(made(tmp_path / "stages").values()) == {1}


@pytest.mark.slow
def test_two_commands_of_two_ranks_share_a_store(job: Any, tmp_path: Path) -> None:
    other = start(tmp_path, *LONG)
    wait_for(lambda: (tmp_path / "stages" / "dense").exists())
    assert "failed" not in job(*SMALL, *LONG)
    ended(other)
    assert set(made(tmp_path / "stages").values()) == {1}
    assert len(made(tmp_path / "stages")) == 5
