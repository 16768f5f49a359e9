"""After a grid the report is brought up to date, where there is something new; and never undoes the grid."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from advprune.launch.refresh_report import refresh_report
from advprune.report import build as building


@pytest.fixture
def grid(tmp_path: Path) -> tuple[Path, Path]:
    """A store with a journal, and the table of a grid that made one stage."""
    store, table = tmp_path / "stages", tmp_path / "elsewhere" / "table.json"
    store.mkdir()
    table.parent.mkdir()
    (store / "journal.jsonl").write_text("{}\n")
    table.write_text(json.dumps([{"made": 1}]))
    return store, table


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What ``build`` was called with, instead of building."""
    calls: list[Any] = []

    def build(store: Path, out: Path, tables: Any) -> None:
        calls.append((store, out, list(tables)))
        out.mkdir(exist_ok=True)
        (out / "index.html").write_text("page")

    monkeypatch.setattr(building, "build", build)
    return calls


def test_a_grid_renews_the_report_with_its_own_table(
    grid: tuple[Path, Path], built: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    store, table = grid
    refresh_report(store, table)
    assert built == [(store, store.parent / "report", [table])]
    assert f"report    {store.parent / 'report' / 'index.html'}" in capsys.readouterr().out


def test_a_grid_that_made_nothing_leaves_a_newer_page(
    grid: tuple[Path, Path], built: list[Any]
) -> None:
    store, table = grid
    table.write_text(json.dumps([{"made": 0}]))
    refresh_report(store, table)  # there is no page yet
    refresh_report(store, table)
    assert len(built) == 1
    later = (store.parent / "report" / "index.html").stat().st_mtime + 5
    os.utime(store / "journal.jsonl", (later, later))  # another command made something since
    refresh_report(store, table)
    assert len(built) == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), OSError(28, "No space left on device"), MemoryError()]
)
def test_whatever_goes_wrong_is_a_line(
    grid: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def build(*given: Any) -> None:
        raise error

    monkeypatch.setattr(building, "build", build)
    with caplog.at_level(logging.WARNING):
        refresh_report(*grid)
    (line,) = caplog.messages
    assert line.startswith(f"no report ({type(error).__name__}: ")
    assert "python -m advprune.report tries again" in line


def test_a_store_without_an_evaluation_is_a_sentence(
    grid: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        refresh_report(*grid)
    assert "no report: there is no finished evaluation in" in caplog.text
