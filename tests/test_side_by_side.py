"""A small real grid side by side: the serial grid's table and stages, to the bit, whatever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from advprune.store.checksums import MARK
from benchmarks.grid_side_by_side import rows, weights

pytestmark = pytest.mark.slow

GRID = (*TINY, "pruner=magnitude,random", "ratio=0.5,0.9", "attack.steps=200")
AUDIT = (
    *(word for word in TINY if not word.startswith("attack.")),
    "pruner=magnitude,random",
    "ratio=0.5",
    "attack=autoattack",
    "attack.engine=fast",
    "attack.version=custom",
    "attack.attacks=[apgd-ce]",
    "attack.audit=4",
    "attack.images=96",
    "attack.batch_size=4",
)
TOGETHER = ("hydra/launcher=local", "hydra.launcher.jobs=2")


def start(
    folder: Path, *words: str, grid: tuple[str, ...] = GRID, place: str = "grid"
) -> subprocess.Popen[str]:
    places = (f"store={folder}/stages", f"hydra.sweep.dir={folder}/{place}", "report=false")
    return subprocess.Popen(
        [sys.executable, "prune.py", "-m", *grid, *words, *places],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a suite that was started in the background ignores it
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=2400)
    assert process.returncode == code, said
    return said


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 1200
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finished(folder: Path, kind: str) -> int:
    return len(list(folder.glob(f"stages/{kind}/*/{MARK}")))


def under_way(folder: Path, kind: str) -> int:
    return len(list(folder.glob(f"stages/{kind}/*/.holder")))


def processes_of(folder: Path) -> set[int]:
    """The processes of jobs under way, as their records say."""
    records = [json.loads(path.read_text()) for path in folder.glob("grid/*/job.json")]
    return {record["pid"] for record in records if "pid" in record}


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    ended(start(folder, "hydra/launcher=basic"))
    return folder


def assert_same(folder: Path, serial: Path) -> None:
    assert rows(folder / "grid") == rows(serial / "grid")
    found, expected = weights(folder / "stages"), weights(serial / "stages")
    networks = [name for name in expected if name.endswith("/model.safetensors")]
    assert len(networks) == 1 + 4 + 4  # dense, pruned and fine-tuned
    assert found == expected


def assert_made_once(folder: Path) -> None:
    journal = [json.loads(line) for line in (folder / "stages/journal.jsonl").open()]
    made = [line["key"] for line in journal if line["event"] == "made"]
    assert sorted(made) == sorted(set(made))


def test_side_by_side_it_is_the_serial_grid(tmp_path: Path, serial: Path) -> None:
    said = ended(start(tmp_path, *TOGETHER))
    assert "4 jobs, 2 at a time" in said
    assert_same(tmp_path, serial)
    assert_made_once(tmp_path)
    waited = [path for path in tmp_path.glob("grid/*/output.log") if "waiting" in path.read_text()]
    assert not waited


def test_two_grids_on_one_store_make_nothing_twice(tmp_path: Path, serial: Path) -> None:
    first = start(tmp_path, *TOGETHER)
    second = start(tmp_path, *TOGETHER, place="second")
    ended(first)
    ended(second)
    assert rows(tmp_path / "second") == rows(tmp_path / "grid")
    assert_same(tmp_path, serial)
    assert_made_once(tmp_path)


def test_ctrl_c_ends_all_jobs_and_the_same_command_goes_on(tmp_path: Path, serial: Path) -> None:
    process = start(tmp_path, *TOGETHER)
    wait_for(lambda: finished(tmp_path, "pruned") > 0, process)
    jobs = processes_of(tmp_path)
    process.send_signal(signal.SIGINT)
    said = ended(process, 130)
    assert "interrupted; the same command goes on where it was" in said
    assert "stopping" in said
    assert jobs
    assert not any(alive(job) for job in jobs)
    ended(start(tmp_path, *TOGETHER))
    assert_same(tmp_path, serial)


def test_a_killed_grid_leaves_no_orphan_and_goes_on(tmp_path: Path, serial: Path) -> None:
    process = start(tmp_path, *TOGETHER)
    wait_for(lambda: finished(tmp_path, "pruned") > 0, process)
    jobs = processes_of(tmp_path)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 120
    while any(alive(job) for job in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert jobs
    ended(start(tmp_path, *TOGETHER))
    assert_same(tmp_path, serial)


def test_a_job_killed_in_mid_audit_takes_no_other_with_it(tmp_path: Path) -> None:
    process = start(tmp_path, *TOGETHER, grid=AUDIT)
    wait_for(lambda: finished(tmp_path, "finetuned") == 2, process)
    wait_for(lambda: under_way(tmp_path, "evaluated") > 0, process)
    os.kill(max(processes_of(tmp_path)), signal.SIGKILL)
    said = ended(process, 1)
    assert "killed by signal 9 (SIGKILL)" in said
    table = json.loads((tmp_path / "grid" / "table.json").read_text())
    assert len(table) == 1
    ended(start(tmp_path, *TOGETHER, grid=AUDIT))
    assert len(json.loads((tmp_path / "grid" / "table.json").read_text())) == 2
