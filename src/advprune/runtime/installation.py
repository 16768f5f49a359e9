"""Find what lies beside the package: the scripts and ``conf/``, in a wheel or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
#: In a wheel, the folder that pyproject.toml puts the scripts and conf/ into.
IN_WHEEL = PACKAGE / "scripts"


def scripts() -> Path:
    """Return the folder with ``train.py``, ``prune.py``, ``attack.py`` and ``conf/``."""
    return IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parents[1]
