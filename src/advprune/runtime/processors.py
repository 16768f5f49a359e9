"""Count the processors this process may use: in a container or SLURM job, fewer than there are."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


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

    They are those of its affinity, or fewer if its cgroup grants it less time.
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
