"""The memory of a machine and of its cgroups, and how many jobs fit into it; all files are made up here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from advprune.launch import local
from advprune.launch.memory import GIB, PER_JOB, Room, free_memory, resident
from advprune.launch.shares import Share


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[], int | None]:
    """8 GiB are available to the machine; what a test adds are limits."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "membership").write_text("0::/slice/job\n")
    (tmp_path / "slice" / "job").mkdir(parents=True)
    return lambda: free_memory(tmp_path / "meminfo", tmp_path, tmp_path / "membership")


def limit(group: Path, most: object, used: object, cache: int | None = None) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    if cache is not None:
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 7\n")


def test_without_a_limit_it_is_the_machines(
    machine: Callable[[], int | None], tmp_path: Path
) -> None:
    assert machine() == 8 * GIB
    limit(tmp_path / "slice" / "job", "max", GIB)
    assert machine() == 8 * GIB
    assert free_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None


def test_a_containers_limit_counts_and_read_files_do_not(
    machine: Callable[[], int | None], tmp_path: Path
) -> None:
    limit(tmp_path / "slice" / "job", 4 * GIB, 3 * GIB, cache=GIB)
    assert machine() == 2 * GIB
    limit(tmp_path / "slice", 4 * GIB, 3 * GIB)  # a limit of the group around it
    assert machine() == GIB
    (tmp_path / "slice" / "memory.high").write_text(f"{7 * GIB // 2}\n")  # above it, it is slow
    assert machine() == GIB // 2
    limit(tmp_path / "slice", GIB, 3 * GIB)  # lowered below what is used
    assert machine() == 0


def test_the_first_version_of_cgroups(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("9:cpu,cpuacct:/x\n8:memory:/docker/a\n0::/\n")
    group = tmp_path / "memory" / "docker" / "a"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (group / "memory.stat").write_text(f"inactive_file 5\ntotal_inactive_file {GIB}\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text(f"{7 * GIB}\n")
    assert free_memory(tmp_path / "none", tmp_path, tmp_path / "membership") == 3 * GIB


def test_a_process_and_its_children_are_counted(tmp_path: Path) -> None:
    for number, kib, children in ((1, 100, "2 3"), (2, 20, ""), (3, 3, "4"), (4, 1, "")):
        (tmp_path / str(number) / "task" / str(number)).mkdir(parents=True)
        (tmp_path / str(number) / "status").write_text(f"Name: x\nVmRSS:\t {kib} kB\n")
        (tmp_path / str(number) / "task" / str(number) / "children").write_text(children)
    assert resident(1, tmp_path) == 124 * 1024
    assert resident(9, tmp_path) == 0


def test_a_running_job_keeps_what_it_has_yet_to_take() -> None:
    held = {1: GIB, 2: GIB // 2}
    room = Room(2 * GIB, lambda: 6 * GIB, held.__getitem__)
    assert room.for_more([]) == 3
    assert room.for_more([1]) == 2  # 6 less the 1 GiB that it will still take, by 2
    assert room.for_more([1, 2]) == 1
    held[1] = 5 * GIB  # larger than was thought: so are the others, then
    assert room.for_more([1]) == 1
    assert room.need == 5 * GIB
    assert room.for_more([1, 2]) == 0
    assert Room(free=lambda: None).for_more([]) == float("inf")


def test_too_little_memory_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert Room(PER_JOB, lambda: 2 * GIB).for_more([]) == 1
    assert Room(PER_JOB, lambda: 2 * GIB).sentence(1, 4) == (
        "2.0 GiB of memory are free, and a job may take 1.5 GiB: 1 at a time and not 4, until "
        "there is more; hydra.launcher.jobs=4 runs them all the same"
    )


def test_the_cores_of_jobs_that_do_not_fit_go_to_those_that_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[list[Share]] = []

    class Runner:
        def __init__(self, shares: list[Share], *_: object) -> None:
            given.append(shares)

        def run(self, jobs: object) -> None:
            pass

    monkeypatch.setattr(local, "Runner", Runner)
    monkeypatch.setattr(local, "usable_processors", lambda: 4)
    monkeypatch.setattr(local, "Room", lambda: Room(GIB, lambda: 2 * GIB))
    options = {"jobs": None, "gpus": [], "gpus_per_job": 1, "accelerator": "cpu"}
    from advprune.tracking.grid_place import GridPlace

    local.run([None] * 9, GridPlace(Path(), 9), options)  # type: ignore[list-item]
    assert given == [[Share(2), Share(2)]]
    assert "2 at a time and not 4" in capsys.readouterr().out
    local.run([None] * 9, GridPlace(Path(), 9), options | {"jobs": 4})  # type: ignore[list-item]
    assert len(given[1]) == 4
    assert "memory" not in capsys.readouterr().out
