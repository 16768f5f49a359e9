"""A table that is wider than the terminal is folded into parts; no number and no part of a name is cut."""

import io
from typing import Any

import pytest
from rich.console import Console

from advprune.report.table import terminal
from advprune.report.table.line_breaks import LINE, broken

SHARES = {
    f"{whose}{name}{end}": value
    for whose in ("", "dense_")
    for name in ("clean_acc", "robust_acc")
    for end, value in (("", 0.876), ("_interval", [0.812, 0.934]))
}
ROW: dict[str, Any] = {
    "dataset": "digits",
    "model": "small_cnn",
    "objective": "trades",
    "pruner": "hydra",
    "ratio": 0.99,
    "zeros": 0.99,
    "nonzero_parameters": 520,
    "nonzero_macs": 52_000,
    "attack": "autoattack",
    "norm": "linf",
    "eps": 0.15,
    "perturbation": None,
    "images": 359,
    "of": 359,
    "seeds": 3,
    "seconds": 1234.0,
    "foreign": None,
    **SHARES,
}
FAILED = {
    "failed": "it broke",
    "names": {"model": "small_cnn", "pruner": "magnitude", "attack": "autoattack"},
    "ratio": 0.9,
    "seed": 1,
}


def shown(
    rows: list[dict[str, Any]],
    failed: list[dict[str, Any]],
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """What a terminal of this width shows."""
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False)
    monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True, raising=False)
    for table in terminal._tables(console, rows, failed):
        console.print(table)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_too_long_and_every_number_is_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROW, ROW | {"pruner": "magnitude", "ratio": 0.9}]
    text = shown(rows, [FAILED], width, monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    numbers = text.split()
    for name in ("magnitude", "hydra", "87.6", "0.9900", "520", "1234", "359", "failed", "0.15"):
        assert name in numbers or name in text
    assert text.count("[81.2, 93.4]") == 8
    assert ("small_cnn, autoattack linf 0.15; digits" in text) == (
        width < 200
    )  # all rows have it: said once
    assert text.count("magnitude") == (2 if width == 200 else 2 * text.count("┏"))


def test_a_foreign_checkpoint_keeps_its_name_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    file = "resnet18_hydra_weights-0.99_cifar10.pth.tar"
    rows = [ROW | {"foreign": file}, ROW | {"foreign": "other.pt", "pruner": None, "ratio": None}]
    text = shown(rows, [], 80, monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    first, *rest = broken(file).split("\n")
    assert "".join([first, *rest]) == file
    assert all(part in text for part in (first, *rest))


def test_words_break_between_the_parts_of_a_name() -> None:
    assert broken("hydra pruner.process.init=scaled") == "hydra pruner.process.\ninit=scaled"
    assert broken("short") == "short"
    whole = "x" * (LINE + 5)
    assert broken(whole) == whole
