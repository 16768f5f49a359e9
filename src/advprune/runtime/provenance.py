"""Record what made a number: code, package versions, processors in use, time."""

import hashlib
import math
import os
import platform
import socket
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
#: The environment's variable with which a grid tells a job how many processors it may keep busy.
SHARE = "ADVPRUNE_PROCESSORS"
#: Files that decide what is computed: of those that git does not know, these are part of the code's
#: version.
SOURCES = ("*.py", "*.yaml", "*.yml", "*.toml", "*.json")
PACKAGES = (
    "advprune",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "pyautoattack",
    "numpy",
)


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
    its cgroup grants it less time. A job of a grid has its share of them.
    """
    quota, share = cgroup_quota(), os.environ.get(SHARE)
    limits = [len(affinity())]
    limits += [] if quota is None else [math.ceil(quota)]
    limits += [] if share is None else [int(share)]
    return max(min(limits), 1)


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return how many processors' worth of time the cgroup allows; None for no limit.

    ``docker --cpus`` and Kubernetes' limits set it. Both versions of cgroups are read; of a group
    and its ancestors, the smallest limit counts.

    Args:
        root: where the cgroup filesystem is mounted.
        membership: the file that lists this process's groups.
    """
    limits = [_v2(folder) for folder in cgroup_folders(root, membership, "")]
    limits += [_v1(folder) for folder in cgroup_folders(root / "cpu", membership, "cpu")]
    return min((limit for limit in limits if limit is not None), default=None)


def cgroup_folders(root: Path, membership: Path, controller: str) -> list[Path]:
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


@cache
def code_version() -> str:
    """Return the checkout's commit, with ``+`` and a hash of changes, or the package's version.

    Two trees that were changed in different ways have different names.
    """
    return version_of(Path(__file__).parent) or _version("advprune")


def version_of(folder: Path) -> str | None:
    """Name the state of the git checkout that ``folder`` lies in; None outside of one."""
    try:
        root = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
        commit = _git(root, "describe", "--always", "--abbrev=12").decode().strip()
        changes = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--binary")
        added = _git(
            root, "ls-files", "-z", "--others", "--exclude-standard", "--", *SOURCES
        ).split(b"\0")
        if not changes and not any(added):
            return commit
        digest = hashlib.sha256(changes)
        for name in sorted(filter(None, added)):
            digest.update(name + b"\0" + (root / os.fsdecode(name)).read_bytes())
        return f"{commit}+{digest.hexdigest()[:8]}"
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> bytes:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, timeout=10, check=True).stdout


@cache
def code_checksum() -> str:
    """Return the SHA-256 of this package's source files."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def provenance(command: str) -> dict[str, Any]:
    """Return the facts of this process that are kept with every result.

    Args:
        command: what makes the result again.
    """
    import torch

    return {
        "code": code_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "processor": f"{platform.machine()}, {usable_processors()} of {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": command,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
