"""Use the machine well: keep freed memory for the next step, and count the processors allowed."""

import ctypes
import math
import os
import sys
from functools import cache
from pathlib import Path

#: Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
#: Free bytes at the end of the heap from which on they are given back. A C int: 2 GiB are the most.
KEPT = 1 << 30
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@cache
def keep_freed_memory() -> bool:
    """Keep up to ``KEPT`` free bytes in this process from now on, for its next big blocks.

    glibc hands blocks above 32 MiB back to the system as soon as they are free, and the free end of
    its heap above 64 MiB. A training step allocates and frees the same big tensors again and again,
    and each time the system clears their pages anew. Kept, they are there already.
    docs/performance.md has what it saves. Only the first call does anything.

    Returns:
        Whether the C library took the settings; others than glibc have none.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        glibc, mallopt = library.gnu_get_libc_version, library.mallopt
    except (AttributeError, OSError):  # musl has no glibc version, and an empty mallopt or none
        return False
    del glibc
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))


def affinity() -> list[int]:
    """Return the numbers of the processors that the system lets this process run on.

    ``taskset``, SLURM and ``docker --cpuset-cpus`` set them.
    """
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


def usable_processors() -> int:
    """Return how many processors this process may keep busy, at least 1.

    In a container or a SLURM job they are fewer than there are: those of its affinity, or fewer if
    its cgroup grants it less time.
    """
    quota = cgroup_quota()
    allowed = len(affinity())
    return allowed if quota is None else max(min(allowed, math.ceil(quota)), 1)


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many processors' worth of time the cgroup allows; None for no limit.

    ``docker --cpus`` and Kubernetes' limits set it. Both versions of cgroups are read; of a group
    and its ancestors, the smallest limit counts.

    Args:
        root: where the cgroup filesystem is mounted.
        membership: the file that lists this process's groups.
    """
    limits = [_v2(folder) for folder in _groups(root, membership, "")]
    limits += [_v1(folder) for folder in _groups(root / "cpu", membership, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def _groups(root: Path, membership: Path, controller: str) -> list[Path]:
    """Return the folders of this process's group and its ancestors; the root alone if not known."""
    for line in _read(membership).splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            group = root / path.lstrip("/")
            return [group, *(folder for folder in group.parents if folder.is_relative_to(root))]
    return [root]


def _v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Divide allowed by period, in microseconds; None, for no limit, unless both are digits."""
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
