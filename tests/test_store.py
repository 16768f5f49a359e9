"""The store: complete or not there, one maker at a time, a dead maker replaced."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from plain_options import PlainOptions

from advprune.errors import UserError
from advprune.store.stage import Stage
from advprune.store.store import Store

STAGE = Stage("dense", PlainOptions({"seed": 0}))


def hold(root: Path, begun: Path, seconds: float) -> None:
    with Store(root).claim(STAGE, waiting=lambda _: None):
        begun.touch()
        time.sleep(seconds)


def make_once(root: Path, tally: Path) -> None:
    store = Store(root)
    with store.claim(STAGE, waiting=lambda _: None):
        if not store.done(STAGE):
            with tally.open("a") as file:
                file.write("made\n")
            store.finish(STAGE, {"value": 1})


def make_once_of_several(root: Path, tally: Path, gate: Any, arrived: Any) -> None:
    """As ``make_once``, but the maker goes on only when all others have come: to wait, or beside it."""
    counted = []

    def arrive(_: float) -> None:
        if not counted:
            counted.append(True)
            with arrived.get_lock():
                arrived.value += 1

    store = Store(root)
    gate.wait(300)
    with store.claim(STAGE, waiting=arrive):
        arrive(0)
        if store.done(STAGE):
            return
        with tally.open("a") as file:
            file.write("made\n")
        deadline = time.monotonic() + 300
        while arrived.value < gate.parties and time.monotonic() < deadline:
            time.sleep(0.01)
        store.finish(STAGE, {"value": 1})


def test_a_stage_is_done_only_after_its_mark(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        (folder / "model.safetensors").write_bytes(b"x")
        assert not store.done(STAGE)
        store.finish(STAGE, {"value": 0.5})
    assert store.done(STAGE)
    assert store.result(STAGE) == {"value": 0.5}
    assert not (folder / "work").exists()


def test_a_changed_bit_is_found_where_a_stage_is_read_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        (folder / "model.safetensors").write_bytes(b"abc")
        store.finish(STAGE, {"value": 0.5})
    assert store.done(STAGE, read=True)
    (folder / "model.safetensors").write_bytes(b"abd")
    assert not Store(tmp_path).done(STAGE, read=True)
    (folder / "model.safetensors").write_bytes(b"ab")  # the size is looked at in any case
    assert not Store(tmp_path).done(STAGE)


def test_processes_make_a_stage_once(tmp_path: Path) -> None:
    """All of them are at the lock before the first has made it: one that excludes nobody fails this every time."""
    context = multiprocessing.get_context("fork")
    gate, arrived = context.Barrier(6), context.Value("i", 0)
    given = (tmp_path / "store", tmp_path / "tally", gate, arrived)
    workers = [
        context.Process(target=make_once_of_several, args=given) for _ in range(gate.parties)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0
    assert arrived.value == gate.parties
    assert (tmp_path / "tally").read_text() == "made\n"


def test_a_maker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    maker = context.Process(target=hold, args=(tmp_path / "store", tmp_path / "begun", 60))
    maker.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    os.kill(maker.pid, signal.SIGKILL)
    make_once(tmp_path / "store", tmp_path / "tally")
    maker.join(600)
    assert Store(tmp_path / "store").done(STAGE)


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        store.finish(STAGE, {})
    (folder / "result.json").write_text('{"half')
    with pytest.raises(UserError, match=r"result\.json is damaged .* delete its folder"):
        store.result(STAGE)


def test_the_journal_has_a_line_an_event(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for event in ("made", "found"):
        store.note(STAGE, event)
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(line["event"], line["stage"], line["key"]) for line in lines] == [
        ("made", "dense", STAGE.key),
        ("found", "dense", STAGE.key),
    ]
