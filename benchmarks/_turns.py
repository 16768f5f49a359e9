"""Share what the benchmarks have in common: the clock, taking turns, a network's constants."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

#: Of any network on images of CIFAR-10's size; neither bytes nor times depend on them.
CIFAR: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 3,
    "image_size": 32,
    "mean": [0.5] * 3,
    "std": [0.25] * 3,
}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def place() -> str:
    """Return where this runs, for a row."""
    return (
        torch.cuda.get_device_name()
        if DEVICE == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )


def clock() -> float:
    """Return the seconds that other processes on the machine disturb least.

    With one thread these are the process's own. With several threads, which burn seconds waiting
    for each other, and on a GPU, whose work is waited for, they are those of the wall clock.
    """
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = clock()
    call()
    return clock() - start


def in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of each call in ``rounds`` rounds, so that a busy moment hits all alike.

    Args:
        calls: by name.
        rounds: how many are timed.
        warm: how many come before, untimed.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(warm + rounds):
        for name, call in calls.items():
            measured = seconds(call)
            if number >= warm:
                taken[name].append(measured)
    return taken
