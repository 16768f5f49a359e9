"""Identify code of the user's own by the checksum of its file."""

import importlib.util
import sysconfig
from pathlib import Path

from advprune.datasets.manifest import checksum


def source_checksum(target: str) -> str | None:
    """Return the checksum of the file that defines a class or function of the user's.

    So a network that was changed does not find the results of what it was. Of an installed package
    it is None: its version is in the provenance.

    Args:
        target: dotted path.
    """
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except (ImportError, ValueError):  # a path that names nothing is refused with its signature
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    if any(Path(spec.origin).is_relative_to(folder) for folder in installed):
        return None
    return checksum(Path(spec.origin))
