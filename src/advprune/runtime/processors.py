"""How many processors this process may use, which in a container or a SLURM job are fewer than the machine has."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def affinity() -> list[int]:
    """The processors that the system lets this process run on (``taskset``, SLURM, ``docker --cpuset-cpus``)."""
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )


def usable_processors() -> int:
    """How many this process may keep busy: those of its affinity, or the time that its cgroup gives it, if less."""
    quota = cgroup_quota()
    allowed = len(affinity())
    return allowed if quota is None else max(min(allowed, math.ceil(quota)), 1)


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Processors' worth of time that the cgroup allows (``docker --cpus``, Kubernetes' limits); None for no limit.

    Both versions of cgroups are read; of a group and those that it lies in, the smallest limit
    counts.
    """
    limits = [_v2(folder) for folder in _groups(root, membership, "")]
    limits += [_v1(folder) for folder in _groups(root / "cpu", membership, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def _groups(root: Path, membership: Path, controller: str) -> list[Path]:
    """Folders of this process's group and of those that it lies in; the root alone, if that is not known."""
    for line in _read(membership).splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = root / path.lstrip("/")
            return [own, *(folder for folder in own.parents if folder.is_relative_to(root))]
    return [root]


def _v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Of microseconds in each period; no number, or -1, is no limit."""
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
