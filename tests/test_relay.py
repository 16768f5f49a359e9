"""A logger tells of what other processes of its job do, such as the ranks of a training."""

import multiprocessing
import pickle

from advprune.tracking.logger import Logger
from advprune.tracking.relay import for_ranks


class Remembers(Logger):
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def point(self, stage: str, row: dict[str, float]) -> None:
        self.told.append((stage, row["epoch"]))


def _elsewhere(content: bytes) -> None:
    logger = pickle.loads(content)
    for epoch in range(50):
        logger.point("dense", {"epoch": epoch})


def test_a_logger_hears_the_processes_of_its_job() -> None:
    """What a rank gets calls back; no word is lost and their order is kept. Closed, it leaves the rank alone."""
    inner = Remembers()
    with for_ranks(inner) as logger:
        content = pickle.dumps(logger)
        process = multiprocessing.get_context("spawn").Process(
            target=_elsewhere, args=(content,), daemon=True
        )
        process.start()
        process.join(600)
        assert process.exitcode == 0
        assert inner.told == [("dense", epoch) for epoch in range(50)]
    _elsewhere(content)
    assert len(inner.told) == 50
