"""Which job of a grid starts next: what others wait for first, and nothing that would only wait."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from advprune.launch.jobs import Job
from advprune.launch.order import Queue, parents_first
from advprune.launch.work import MissingStage, Work
from advprune.store.checksums import MARK


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


def make(store: Path, *names: str) -> None:
    for name in names:
        (store / name).mkdir()
        (store / name / MARK).touch()


def numbers(jobs: Iterable[Job | None]) -> list[int | None]:
    return [None if job is None else job.number for job in jobs]


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
    queue = Queue(grid)
    assert numbers(queue.take() for _ in range(3)) == [0, 1, None]  # one a seed; the rest waits
    make(tmp_path, "s1")
    assert numbers(queue.take() for _ in range(3)) == [3, 5, None]
    make(tmp_path, "s0")
    assert numbers(queue.take() for _ in range(3)) == [2, 4, None]
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
    queue = Queue([first, same, other])
    assert numbers(queue.take() for _ in range(2)) == [0, None]
    make(tmp_path, "d")
    assert numbers(queue.take() for _ in range(2)) == [2, 1]


def test_what_a_job_that_died_has_not_made_another_makes(grid: list[Job]) -> None:
    queue = Queue(grid)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.ended(first)
    assert numbers([queue.take(), queue.take()]) == [2, None]


def test_a_job_that_found_no_room_is_the_next(grid: list[Job]) -> None:
    queue = Queue(grid)
    job = queue.take()
    assert job is not None
    queue.put_back(job)
    assert queue.take() is job


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
