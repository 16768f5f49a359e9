"""Files that lie, in a store or an output folder: each gets a sentence or a warning, and none is called or followed."""

import json
import logging
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_options import PlainOptions

from advprune.errors import UserError, system_sentence
from advprune.launch import grid_log
from advprune.modules.weights_io import NEEDED, broken_checkpoint, is_whole_checkpoint
from advprune.runtime import safe_files
from advprune.runtime.safe_files import DEEPEST, parse_json, parse_yaml, read_json
from advprune.store.lock import HOLDER, LOCK
from advprune.store.stage import Stage
from advprune.store.store import WORK, Store
from advprune.tracking.logger import CsvFile
from advprune.tracking.optuna_trial import pruner_of

STAGE = Stage("dense", PlainOptions({"seed": 0}))
LETTERS = "abcdefghijklmnopqrstuvw"
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise(LETTERS))


def test_json_and_yaml_of_bounded_depth_and_size(tmp_path: Path) -> None:
    deep = "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1)
    for text in (deep, "[" * 100_000, '{"a":' * 50_000):
        with pytest.raises(ValueError):
            parse_json(text)
    for text in (BOMB, "a: &a [*a]", deep, "a: [", "!!python/object/apply:os.system ['true']"):
        with pytest.raises(ValueError):
            parse_yaml(text)
    assert parse_json(deep[1:-1]) is not None
    assert parse_yaml("a: &x [1, 2]\nb: [*x, *x]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is no file"):
        read_json(tmp_path / "pipe")


def test_what_a_folder_says_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger of a grid's table is that of the command, whatever a job's record names."""
    called: list[Any] = []

    def build(node: dict[str, Any]) -> CsvFile:
        called.append(node)
        return CsvFile()

    monkeypatch.setattr(grid_log, "build", build)
    evil = {"_target_": "os.system", "command": "true"}
    record = {"row": {}, "group": "g", "logger": evil, "store": str(tmp_path)}
    ours = {"csv": {"_target_": "advprune.tracking.logger.CsvFile"}}
    grid_log.log_grid([record], tmp_path, ours, tmp_path)
    assert called == [ours["csv"]]
    with pytest.raises(UserError, match="none of Optuna's"):
        pruner_of(evil)
    assert type(pruner_of({"_target_": "optuna.pruners.MedianPruner"})).__name__ == "MedianPruner"


def test_a_maker_that_was_taken_over_writes_nothing_more(tmp_path: Path) -> None:
    """It was stopped between two epochs; who took it over has finished meanwhile."""
    store, other = Store(tmp_path), {"host": "elsewhere", "pid": 1}
    folder = store.folder(STAGE)

    def make() -> None:
        with store.claim(STAGE, waiting=None):
            store.begin(STAGE)
            safe_files.write_atomically(folder / "best.safetensors", b"ours")
            (folder / LOCK).unlink()
            (folder / LOCK).touch()
            (folder / HOLDER).write_text(json.dumps(other))
            (folder / "best.safetensors").write_bytes(b"theirs")
            (folder / "result.json").write_text("{}")
            (folder / "complete").write_text("theirs")
            safe_files.write_atomically(folder / "best.safetensors", b"ours again")

    with pytest.raises(UserError, match="process 1 on elsewhere"):
        make()
    assert (folder / "best.safetensors").read_bytes() == b"theirs"
    assert sorted(p.name for p in folder.iterdir() if p.name[0] != ".") == [
        "best.safetensors",
        "complete",
        "result.json",
    ]
    assert not list(folder.glob(f".*{safe_files.PART}"))
    safe_files.write_atomically(folder / "x", b"")  # the fence is gone with the claim
    assert not (folder / WORK).exists()


def test_a_lock_that_is_a_folder_is_a_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.folder(STAGE) / LOCK).mkdir(parents=True)
    with pytest.raises(OSError) as caught, store.claim(STAGE, waiting=None):
        pass
    assert (system_sentence(caught.value) or "").startswith(
        f"{store.folder(STAGE) / LOCK} is in the way"
    )


def test_a_place_that_cannot_be_is_a_sentence() -> None:
    with pytest.raises(OSError) as caught, Store("/proc/x").claim(STAGE, waiting=None):
        pass
    assert (system_sentence(caught.value) or "").startswith("/proc/x")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", bytes(100)])
def test_a_damaged_checkpoint_costs_its_work_and_no_more(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "last.ckpt"
    assert not is_whole_checkpoint(last)
    torch.save(dict.fromkeys(NEEDED, 0), last)
    assert is_whole_checkpoint(last)
    torch.save({"state_dict": {}}, last)
    assert broken_checkpoint(last) == "it has no callbacks"
    last.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert not is_whole_checkpoint(last)
    assert f"{last} is damaged" in caplog.text
