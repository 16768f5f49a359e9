"""One store and many processes: 8 that start the same grid at once, and 4 of which one is killed again and again."""

import json
import multiprocessing
import os
import random
import runpy
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from test_kill import contents

pytestmark = pytest.mark.slow

PROCESSES = 8
#: What takes seconds to import: once, in the process that the others are forked off.
STAGES = ("dense", "pruned", "finetuned", "evaluated")
PRELOADED = [
    *(f"advprune.stages.{name}" for name in ("rehearsal", *STAGES)),
    "hydra",
    "pandas",
    "scipy.stats",
]


def start(folder: Path, number: int, *words: str) -> BaseProcess:
    """A grid of ``prune.py`` on the store in ``folder``, in a process of its own; ``number`` is of its table."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/grid{number}")
    process = context.Process(target=_command, args=([*TINY, *words, *places], folder / "log"))
    process.start()
    return process


def _command(words: list[str], log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(ROOT)
    sys.argv = ["prune.py", "-m", "hydra/launcher=basic", *words]
    runpy.run_path("prune.py", run_name="__main__")


def finish(process: BaseProcess, folder: Path) -> None:
    process.join(1500)
    assert process.exitcode == 0, (folder / "log").read_text()[-3000:]


def table(folder: Path, number: int) -> list[dict[str, Any]]:
    """The rows without what tells one making of them from another: times, places, who made how much."""
    rows = json.loads((folder / f"grid{number}" / "table.json").read_text())
    told = {"seconds", "this_command", "made", "found", "files", "dense_records", "code"}
    return [{name: value for name, value in row.items() if name not in told} for row in rows]


def made(folder: Path) -> Counter[str]:
    """How often each stage was made, by the journal."""
    lines = [
        json.loads(line) for line in (folder / "stages" / "journal.jsonl").read_text().splitlines()
    ]
    return Counter(f"{line['stage']}/{line['key']}" for line in lines if line["event"] == "made")


def complete(folder: Path) -> set[str]:
    return {
        str(path.parent.relative_to(folder / "stages"))
        for path in folder.glob("stages/*/*/complete")
    }


def test_processes_at_once_make_each_stage_once(tmp_path: Path) -> None:
    words = ("pruner=magnitude", "ratio=0.5,0.9", "training.epochs=1", "finetune.epochs=1")
    processes = [start(tmp_path, number, *words) for number in range(PROCESSES)]
    for process in processes:
        finish(process, tmp_path)
    assert len(complete(tmp_path)) == 1 + 1 + 2 + 2 + 2
    assert made(tmp_path) == dict.fromkeys(complete(tmp_path), 1)
    tables = [table(tmp_path, number) for number in range(PROCESSES)]
    assert len(tables[0]) == 2
    assert all(other == tables[0] for other in tables)


#: The grid of each of four processes: the same jobs in another order, so that they are at different
#: stages.
ORDERS = (
    ("hydra,magnitude", "0,1"),
    ("magnitude,hydra", "1,0"),
    ("hydra,magnitude", "1,0"),
    ("magnitude,hydra", "0,1"),
)
STAGES_IN_ALL = (
    2 + 2 + 4 + 4 + 4
)  # dense and its evaluation for two seeds; pruned, finetuned, evaluated for four jobs
KILLS = 8


def test_a_grid_killed_again_and_again_ends_as_one_left_alone(tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    longer = (
        "ratio=0.9",
        "training.epochs=5",
        "search.epochs=4",
        "finetune.epochs=5",
        "attack.batch_size=32",
    )
    grids = [(f"pruner={pruners}", f"seed={seeds}", *longer) for pruners, seeds in ORDERS]
    for folder in (alone, killed):
        folder.mkdir()
    begun = time.monotonic()
    finish(start(alone, 0, *grids[0]), alone)
    whole = time.monotonic() - begun
    instants = random.Random(0)
    processes = [start(killed, number, *grid) for number, grid in enumerate(grids)]
    makers = 0
    for _ in range(KILLS):
        wait_for_a_maker(killed, processes)
        time.sleep(instants.uniform(0, 1) * whole / KILLS)
        making = [n for n, process in enumerate(processes) if holds_a_stage(killed, process.pid)]
        number = instants.choice(
            making or range(len(processes))
        )  # most are waiting, or starting again
        makers += bool(making)
        processes[number].kill()
        processes[number].join(600)
        assert processes[number].exitcode in (-signal.SIGKILL, 0)
        processes[number] = start(killed, number, *grids[number])
    for process in processes:
        finish(process, killed)
    print(  # noqa: T201
        f"{KILLS} kills, {makers} of them of a process that was making a stage; {whole:.0f} s when left alone"
    )
    assert makers >= KILLS // 2
    assert set(made(killed).values()) == {1}
    assert complete(killed) == complete(alone) == set(made(killed))
    expected, found = contents(alone), contents(killed)
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name] == found[name], name
    assert table(killed, 0) == table(alone, 0)


def wait_for_a_maker(folder: Path, processes: list[BaseProcess]) -> None:
    """Until one of them makes a stage, however long they take to start; not once there is nothing left to make."""
    deadline = time.monotonic() + 1200
    while len(complete(folder)) < STAGES_IN_ALL and not any(
        holds_a_stage(folder, p.pid) for p in processes
    ):
        assert time.monotonic() < deadline, (folder / "log").read_text()[-3000:]
        time.sleep(0.02)


def holds_a_stage(folder: Path, pid: int | None) -> bool:
    """Whether the process has its name beside the lock of an unfinished stage."""
    beside = [
        path
        for path in folder.glob("stages/*/*/.holder")
        if not (path.parent / "complete").exists()
    ]
    try:
        return any(json.loads(path.read_text())["pid"] == pid for path in beside)
    except FileNotFoundError:  # it was given back between the two looks
        return holds_a_stage(folder, pid)
