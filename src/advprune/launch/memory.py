"""See whether one more job fits into the memory that is free, so that a grid does not fill it.

What is free is the machine's, or less where a container or a SLURM job has a limit (cgroup v1 or
v2). A job that is running has taken only a part of what it will take; the rest is kept for it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from advprune.runtime.provenance import CGROUPS, MEMBERSHIP, cgroup_folders

MEMINFO, PROCESSES = Path("/proc/meminfo"), Path("/proc")
#: Bytes that a job takes, at least: the default one has a peak of 1.2 GiB.
PER_JOB = 3 * 2**29
GIB = 2**30


def free_memory(
    meminfo: Path = MEMINFO, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> int | None:
    """Return the bytes that may still be used without swapping; None where Linux does not tell.

    Args:
        meminfo: the file in which the kernel tells it of the machine.
        cgroups: where the cgroup filesystem is mounted.
        membership: the file that lists this process's groups.
    """
    rooms = [_available(meminfo)]
    for root, controller, files in (
        (cgroups, "", ("memory.max", "memory.current", "inactive_file")),
        (cgroups, "", ("memory.high", "memory.current", "inactive_file")),
        (
            cgroups / "memory",
            "memory",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ):
        rooms += [_room(each, *files) for each in cgroup_folders(root, membership, controller)]
    return min((room for room in rooms if room is not None), default=None)


def _available(meminfo: Path) -> int | None:
    kib = _field(meminfo, "MemAvailable:")
    return None if kib is None else kib * 1024


def _room(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Return what a cgroup may still take: files that it has only read are given up in time."""
    most, used = _field(group / limit), _field(group / usage)
    if most is None or used is None:
        return None
    return max(most - used + (_field(group / "memory.stat", cache) or 0), 0)


def _field(path: Path, name: str = "") -> int | None:
    """Return the number in a file, or the one that follows ``name``; None for ``max`` or none."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    values = [words[bool(name)] for words in lines if not name or words[0] == name]
    return int(values[0]) if values and values[0].isdigit() else None


def resident(process: int, processes: Path = PROCESSES) -> int:
    """Return the bytes that a process and those that it started hold; 0 where Linux does not tell.

    Args:
        process: its number.
        processes: where the kernel tells it.
    """
    folder = processes / str(process)
    own = (_field(folder / "status", "VmRSS:") or 0) * 1024
    tasks = folder / "task" / str(process) / "children"
    children = tasks.read_text().split() if tasks.exists() else []
    return own + sum(resident(int(child), processes) for child in children)


@dataclass
class Room:
    """Know whether one more job fits.

    Attributes:
        need: bytes that a job may take; it grows to what the largest has taken.
        free: bytes that are free; None where nothing tells.
        taken: number of a process -> bytes that it holds.
    """

    need: int = PER_JOB
    free: Callable[[], int | None] = free_memory
    taken: Callable[[int], int] = resident

    def for_more(self, processes: Collection[int]) -> float:
        """Return how many more jobs fit beside those of these processes."""
        free = self.free()
        if free is None:
            return float("inf")
        held = [self.taken(process) for process in processes]
        self.need = max(self.need, *held, 1)
        kept = sum(self.need - each for each in held)
        return max(free - kept, 0) // self.need

    def sentence(self, at_once: int, wanted: int) -> str:
        """Say that fewer jobs run at the same time than there is a processor or GPU for."""
        return (
            f"{(self.free() or 0) / GIB:.1f} GiB of memory are free, and a job may take "
            f"{self.need / GIB:.1f} GiB: {at_once} at a time and not {wanted}, until there is "
            f"more; hydra.launcher.jobs={wanted} runs them all the same"
        )
