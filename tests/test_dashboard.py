"""The W&B report: what would be sent, that it names what loggers tell, and that nothing is sent without a login."""

import json
from pathlib import Path
from typing import Any

import pytest

from advprune.report.__main__ import main as report_main
from advprune.report.wandb_report import build

pytest.importorskip("wandb_workspaces")


@pytest.fixture(autouse=True)
def _no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def panels(spec: dict[str, Any]) -> list[dict[str, Any]]:
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    return [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]


def test_offline_it_writes_what_it_would_send(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--entity", "me", "--project", "p", "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / build.FILE).read_text())
    assert (written["entity"], written["project"]) == ("me", "p")
    assert "nothing was sent; the same command sends it later" in capsys.readouterr().out
    kinds = {panel["viewType"] for panel in panels(written["spec"])}
    assert {
        "Scatter Plot",
        "Run History Line Plot",
        "Parallel Coordinates Plot",
        "Media Browser",
    } <= kinds


def test_its_curves_are_those_that_are_logged(tmp_path: Path) -> None:
    spec = build.specification(build.report("me", "p"))
    lines = [
        panel["config"] for panel in panels(spec) if panel["viewType"] == "Run History Line Plot"
    ]
    named = {(line["xAxis"], *line["metrics"]) for line in lines}
    assert ("pruned/epoch", "pruned/mask_turnover") in named
    assert ("finetuned/epoch", "finetuned/val_robust_acc") in named
    assert len(named) == len(lines) == 11


def test_a_report_that_was_sent_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is remembered, of this project alone."""
    sent: list[str] = []

    def send(made: Any, kept: dict[str, Any]) -> list[str]:
        sent.append(made.id)
        kept["id"] = "42"
        return []

    monkeypatch.setattr(build, "_send", send)
    for project in ("p", "p", "q"):
        build.publish("me", project, tmp_path, send=True)
    assert sent == ["", "42", ""]


def test_a_folder_that_cannot_be_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert build.main(["--entity", "me", "--offline", "--out", str(tmp_path / "file")]) == 1
    assert "give another --out FOLDER" in capsys.readouterr().err


def test_the_reports_command_leads_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["wandb", "--entity", "me", "--offline", "--out", str(tmp_path / "file")]
    assert report_main(words) == 1
    assert "give another --out FOLDER" in capsys.readouterr().err
