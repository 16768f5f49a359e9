"""What made a number: code version, package versions, hardware, time."""

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

from advprune.processors import usable_processors
from advprune.stages.words import command

PACKAGES = ("advprune", "torch", "torchvision", "pytorch-lightning", "hydra-core", "pyautoattack", "numpy")


@cache
def code_version() -> str:
    """The commit of the checkout this code runs from, with ``+`` if files were changed; else the package's version."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return run.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return _version("advprune")


@cache
def code_checksum() -> str:
    """SHA-256 of this package's source files."""
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


def provenance() -> dict[str, Any]:
    """The facts of this process that go beside every result."""
    import torch

    return {
        "code": code_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "processor": f"{platform.machine()}, {usable_processors()} of {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": command(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
