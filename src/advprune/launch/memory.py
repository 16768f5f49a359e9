"""See how many jobs fit into the memory that is free, so that a grid does not fill the machine."""

from pathlib import Path

MEMINFO = Path("/proc/meminfo")
#: Bytes that a job takes: the default one has a peak of 1.2 GiB.
PER_JOB = 3 * 2**29


def free_memory(meminfo: Path = MEMINFO) -> int | None:
    """Return the bytes that may be used without swapping; None where Linux does not tell.

    Args:
        meminfo: the file in which the kernel tells it.
    """
    if not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def fitting(jobs: int, free: int | None) -> int:
    """Return how many of ``jobs`` fit into ``free`` bytes side by side, at least 1."""
    return jobs if free is None else max(min(jobs, free // PER_JOB), 1)
