"""Fixtures all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; a user's clone has none, and the test that asks for it skips."""
    folder = Path(os.environ.get("ADVPRUNE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real data of {folder}/data, which is not there")
    return folder
