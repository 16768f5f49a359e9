"""Record what made a number: code version, package versions, hardware, time."""

import hashlib
import os
import platform
import socket
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from advprune.runtime.machine import usable_processors

PACKAGES = (
    "advprune",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "pyautoattack",
    "numpy",
)


#: Files that decide what is computed: of those that git does not know, these are part of the code's
#: version.
SOURCES = ("*.py", "*.yaml", "*.yml", "*.toml", "*.json")


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
