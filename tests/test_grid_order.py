"""Which job of a grid starts next: what others wait for first, and nothing that would only wait."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from advprune.launch.jobs import Job
from advprune.launch.order import Queue, parents_first
from advprune.launch.work import MissingStage, Work
from advprune.store.checksums import MARK
from advprune.store.lock import HOLDER, hold


def a_job(store: Path, number: int, *names: str) -> Job:
    """A job whose missing stages are made one from the other: ``dense``, ``dense.pruned``, …"""
    missing = tuple(
        MissingStage(store / name, frozenset(store / earlier for earlier in names_before(name)))
        for name in names
    )
    return Job(number, [], store, [], str(number), Work(missing))


def names_before(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def make(store: Path, *names: str, complete: bool = True) -> None:
    for name in names:
        (store / name).mkdir(exist_ok=True)
        if complete:
            (store / name / MARK).touch()


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Inside, another command makes the stage."""
    folder.mkdir(exist_ok=True)
    with hold(folder, waiting=lambda seconds: None):
        yield


def numbers(jobs: Iterable[Job]) -> list[int]:
    return [job.number for job in jobs]


def started(queue: Queue, running: list[Job], most: int = 99) -> list[int]:
    """Start the jobs that may start beside those that run; they run from then on."""
    before = len(running)
    while len(running) - before < most and (job := queue.next(running)) is not None:
        queue.waiting.remove(job)
        running.append(job)
    return numbers(running[before:])


@pytest.fixture
def grid(tmp_path: Path) -> list[Job]:
    """Three pruners of two seeds: a seed's dense network and its evaluation are shared."""
    return [
        a_job(tmp_path, number, seed, f"{seed}.evaluated", f"{seed}.{pruner}")
        for number, (pruner, seed) in enumerate(
            (pruner, seed) for pruner in ("hydra", "magnitude", "random") for seed in ("s0", "s1")
        )
    ]


def test_parents_come_first_and_others_wait_for_them(grid: list[Job], tmp_path: Path) -> None:
    queue, running = Queue(grid), list[Job]()
    assert started(queue, running) == [0, 1]  # one a seed; the rest waits
    make(tmp_path, "s1")
    assert started(queue, running) == [3, 5]
    make(tmp_path, "s0")
    assert started(queue, running) == [2, 4]
    assert not queue.waiting


def test_what_most_jobs_wait_for_is_first(tmp_path: Path) -> None:
    jobs = [a_job(tmp_path, 0, "a", "a.x"), a_job(tmp_path, 1, "b", "b.x"),
            a_job(tmp_path, 2, "b", "b.y"), a_job(tmp_path, 3, "c", "c.x"),
            a_job(tmp_path, 4, "c", "c.y"), a_job(tmp_path, 5, "c", "c.z")]  # fmt: skip
    assert numbers(parents_first(jobs)) == [3, 1, 0, 2, 4, 5]


def test_a_job_that_never_waits_is_before_one_that_will(tmp_path: Path) -> None:
    """Two attacks on the same networks: the second has its own work, and then waits."""
    first = a_job(tmp_path, 0, "d", "d.pgd", "d.p", "d.p.f", "d.p.f.pgd")
    same = a_job(tmp_path, 1, "d", "d.aa", "d.p", "d.p.f", "d.p.f.aa")
    other = a_job(tmp_path, 2, "d", "d.pgd", "d.q", "d.q.f", "d.q.f.pgd")
    queue, running = Queue([first, same, other]), list[Job]()
    assert started(queue, running) == [0]
    make(tmp_path, "d")
    assert started(queue, running) == [2, 1]


def test_what_a_job_that_died_has_not_made_another_makes(grid: list[Job]) -> None:
    queue, running = Queue(grid), list[Job]()
    assert started(queue, running) == [0, 1]
    assert started(queue, running[1:]) == [2]


def test_a_job_that_found_no_room_is_the_next(grid: list[Job]) -> None:
    queue = Queue(grid)
    assert queue.next([]) is queue.next([]) is grid[0]


def test_what_another_command_makes_is_left_to_it(grid: list[Job], tmp_path: Path) -> None:
    """Two grids on one store: the second has the second seed, and later the other pruners."""
    theirs, ours, mine = Queue(grid), Queue(grid), list[Job]()
    assert started(theirs, [], most=1) == [0]
    with making(tmp_path / "s0"):
        assert started(ours, mine) == [1]
    make(tmp_path, "s0", "s1")
    with making(tmp_path / "s0.hydra"), making(tmp_path / "s0.evaluated"):
        assert started(ours, mine) == [2, 3, 4, 5]
    assert numbers(ours.waiting) == [0]
    make(tmp_path, "s0.hydra", "s0.evaluated")
    assert started(ours, mine) == [0]  # which only finds what the other command made


def test_a_job_waits_for_another_command_if_nothing_else_is_left(
    grid: list[Job], tmp_path: Path
) -> None:
    """It takes over should the other one die; the rest starts when there is something to make."""
    queue, running = Queue(grid), list[Job]()
    with making(tmp_path / "s0"), making(tmp_path / "s1"):
        assert started(queue, running) == [0]
    assert started(queue, running) == [1]


def test_a_store_that_nobody_may_write_in_holds_nothing_back(
    grid: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in ("s0", "s1"):
        make(tmp_path, seed, complete=False)
        (tmp_path / seed / HOLDER).write_text("{}")
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    assert started(Queue(grid), []) == [0, 1]


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_jobs_of_which_nothing_is_known_run_in_their_order(tmp_path: Path) -> None:
    jobs = [Job(number, [], tmp_path, []) for number in range(4)]
    assert numbers(parents_first(jobs)) == [0, 1, 2, 3]


def test_the_27_jobs_of_readme_train_three_dense_networks_first(tmp_path: Path) -> None:
    jobs = [
        a_job(tmp_path, number, seed, f"{seed}.e", f"{seed}.{pruner}{ratio}")
        for number, (pruner, ratio, seed) in enumerate(
            (pruner, ratio, seed) for pruner in "hmr" for ratio in "123" for seed in "xyz"
        )
    ]
    assert numbers(parents_first(jobs)) == list(range(27))
    backwards = list(reversed(jobs))
    assert numbers(parents_first(backwards))[:3] == [26, 25, 24]
