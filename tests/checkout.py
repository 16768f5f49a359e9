"""What a test leaves in the checkout, which should be nothing."""

import hashlib
import shutil
import subprocess
from pathlib import Path

#: What tools keep in a checkout, and git ignores.
CACHES = {
    ".git",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
}


def contents(root: Path) -> dict[str, str]:
    """Each entry of the checkout's folder, each new file and each tracked one that was changed, with its checksum.

    Where there is no git, the entries alone.
    """
    entries = dict.fromkeys({path.name for path in root.iterdir()} - CACHES, "")
    if shutil.which("git") is None:
        return entries
    listed = subprocess.run(
        [
            "git",
            "-c",
            f"safe.directory={root}",
            "ls-files",
            "-z",
            "--modified",
            "--others",
            "--exclude-standard",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    names = [
        name for name in listed.stdout.split("\0") if name and not CACHES & set(Path(name).parts)
    ]
    return entries | {name: _digest(root / name) for name in names}


def changed(root: Path, before: dict[str, str]) -> list[str]:
    """What is not as it was ``before``, sorted."""
    return sorted({name for name, _ in contents(root).items() ^ before.items()})


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not a file"
