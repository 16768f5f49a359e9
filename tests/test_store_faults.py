"""What happens to a shared store: full, read-only, damaged files, a host that died, another version of the code."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, run_job
from plain_options import PlainOptions

from advprune.errors import UserError
from advprune.report.data.intervals import pool
from advprune.report.table.footnotes import notes
from advprune.store import keys, lock
from advprune.store.stage import Stage
from advprune.store.store import Store

STAGE, OTHER = Stage("dense", PlainOptions({"seed": 0})), Stage("dense", PlainOptions({"seed": 1}))
WORDS = (*TINY, "training.epochs=1", "finetune.epochs=1", "pruner=magnitude", "ratio=0.5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which one job is finished."""
    folder = tmp_path_factory.mktemp("finished")
    assert "failed" not in run_job(folder, "prune", WORDS, folder / "stages")
    return folder / "stages"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "stages")


def made(store: Path) -> list[str]:
    lines = [json.loads(line) for line in (store / "journal.jsonl").read_text().splitlines()]
    return [line["stage"] for line in lines if line["event"] == "made"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("evaluated/records.parquet", cut),
        ("evaluated/result.json", cut),
        ("evaluated/result.json", turn_a_bit),
        ("evaluated/result.json", Path.unlink),
        ("evaluated/complete", cut),
        ("pruned/masks.safetensors", cut),
    ],
)
def test_a_damaged_file_is_named_and_made_again(
    job: Any,
    store: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    damage: Callable[[Path], Any],
) -> None:
    """... and all others stay untouched. Of the two evaluations it is the pruned network's."""
    kind, file = name.split("/")
    before = job(*WORDS, store=store)
    assert before["row"]["made"] == 0
    (folder,) = (
        {Path(before["row"]["files"][kind])}
        if kind in before["row"]["files"]
        else (store / kind).iterdir()
    )
    others = {p: p.stat().st_mtime_ns for p in store.glob("*/*/*") if p.parent != folder}
    damage(folder / file)
    after = job(*WORDS, store=store)
    assert f"{folder / file}" in caplog.text
    assert made(store)[5:] == [kind]
    assert (after["row"]["made"], after["row"]["found"]) == (1, 4)
    assert {p: p.stat().st_mtime_ns for p in others} == others
    shares = ("robust_acc", "clean_acc", "sparsity", "validation")
    assert [after["row"][share] for share in shares] == [before["row"][share] for share in shares]
    assert job(*WORDS, store=store)["row"]["made"] == 0


def test_nothing_is_made_from_a_damaged_file(
    job: Any, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One bit of the masks, at the same size: fine-tuning would have trained another network."""
    (masks,) = (store / "pruned").glob("*/masks.safetensors")
    original = masks.read_bytes()
    turn_a_bit(masks)
    shutil.rmtree(store / "finetuned")
    assert "failed" not in job(*WORDS, store=store)
    assert f"{masks} is damaged: its checksum" in caplog.text
    assert sorted(made(store)[5:]) == ["finetuned", "pruned"]
    assert masks.read_bytes() == original


@pytest.mark.parametrize(
    "mark", ["", "{}", "[]", "null", '{"../x": {"bytes": 1, "crc32": 1}}', "[" * 99999]
)
def test_a_mark_that_says_nothing_is_damage(
    tmp_path: Path, mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It would switch all checks off."""
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        store.finish(STAGE, {"value": 1})
    assert store.done(STAGE, read=True)
    (folder / "complete").write_text(mark)
    assert not store.done(STAGE)
    assert f"{folder / 'complete'} is damaged: it is not the mark that was written" in caplog.text


def test_what_is_no_file_is_damage_and_is_not_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        (folder / "weights").write_text("")
        store.finish(STAGE, {"value": 1})
    (folder / "weights").unlink()
    os.mkfifo(folder / "weights")
    assert not store.done(STAGE, read=True)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, nth: int) -> None:
    """Let the nth write, and all after it, fail with this error of the system."""
    writes = []

    def fsync(descriptor: int) -> None:
        writes.append(descriptor)
        if len(writes) >= nth:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("advprune.runtime.safe_files.os.fsync", fsync)


@pytest.mark.parametrize("nth", [1, 4, 9])
def test_a_disk_that_fills_up_leaves_nothing_half_made(
    job: Any, store: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """What was being written is complete for nobody, and the same command then makes exactly that."""
    for kind in ("pruned", "finetuned", "evaluated"):
        shutil.rmtree(store / kind)
    with monkeypatch.context() as patched:
        refuse(patched, errno.ENOSPC, nth)
        failed = job(*WORDS, store=store)["failed"]
    assert failed.startswith(f"the disk is full: {store}")
    assert len(failed.splitlines()) == 1
    complete = len(list(store.glob("*/*/complete")))
    again = job(*WORDS, store=store)
    assert (again["row"]["found"], again["row"]["made"]) == (complete, 5 - complete)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EDQUOT, "the disk is full: "),
        (errno.EROFS, "no permission to write "),
        (errno.ENOLCK, "file locks; put"),
    ],
)
def test_a_disk_that_refuses_is_a_sentence(
    job: Any, store: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    shutil.rmtree(store / "pruned")
    refuse(monkeypatch, number, 1)
    failed = job(*WORDS, store=store)["failed"]
    assert says in failed
    assert str(store) in failed
    assert len(failed.splitlines()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full_or_read_only(job: Any, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(72 * 1024))
    failed = job(*WORDS, store=small_disk / "stages")["failed"]
    assert "the disk is full: " in failed
    assert len(failed.splitlines()) == 1
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    before = job(*WORDS, store=small_disk / "stages")
    assert "failed" not in before
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert (
        job(*WORDS, store=small_disk / "stages")["row"]["robust_acc"] == before["row"]["robust_acc"]
    )
    failed = job(*WORDS, "seed=1", store=small_disk / "stages")["failed"]
    assert failed.startswith(f"no permission to write {small_disk}")


def sleeper(root: Path, results: Any) -> None:
    store = Store(root)
    try:
        with store.claim(STAGE, waiting=lambda _: None) as folder:
            (folder / "begun").touch()
            while not (root / "go_on").exists():
                time.sleep(0.01)
            store.finish(STAGE, {"by": "sleeper"})
    except UserError as error:
        results.put(str(error))


def test_a_holder_without_a_sign_of_life_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process stands for a dead host: the system still has its lock. Awake again, it finishes nothing."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "PATIENCE", 1.0)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=sleeper, args=(tmp_path, results))
    process.start()
    store = Store(tmp_path)
    while not (store.folder(STAGE) / "begun").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with store.claim(STAGE, waiting=lambda _: None):
        assert time.monotonic() - begun >= 1
        os.kill(process.pid, signal.SIGCONT)
        (tmp_path / "go_on").touch()
        said = results.get(timeout=600)
        store.finish(STAGE, {"by": "waiter"})
    process.join(600)
    assert f"taken over by process {os.getpid()} on " in said
    assert store.result(STAGE) == {"by": "waiter"}


def test_a_holder_that_lives_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long: twice the patience."""
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "PATIENCE", 2.0)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=sleeper, args=(tmp_path, results))
    process.start()
    store = Store(tmp_path)
    while not (store.folder(STAGE) / "begun").exists():
        time.sleep(0.01)
    context.Process(target=lambda: (time.sleep(4.5), (tmp_path / "go_on").touch())).start()
    with store.claim(STAGE, waiting=lambda _: None):
        assert store.result(STAGE) == {"by": "sleeper"}
    process.join(600)
    assert results.empty()


def test_a_holder_that_ended_before_it_wrote_its_name_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead host whose lock a network file system keeps; nothing says whose it is."""
    from filelock import FileLock

    monkeypatch.setattr(lock, "PATIENCE", 0.4)
    with (
        FileLock(tmp_path / lock.LOCK, is_singleton=False),
        lock.hold(
            tmp_path, waiting=lambda waited: pytest.fail("for ever") if waited > 100 else None
        ) as held,
    ):
        assert held.ours


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.claim(STAGE, waiting=lambda _: None) as folder:
        who = lock.holder(folder)
        assert who["pid"] == os.getpid()
        assert who.keys() == {"host", "pid", "since"}
        assert store.held[STAGE.key].ours
    assert lock.holder(folder) == {}


def test_what_an_older_recipe_made_is_not_read(
    job: Any, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two versions of the code on one store: each finds its own, and both the dense parent they agree about."""
    old = job(*WORDS, store=store)["row"]
    with monkeypatch.context() as newer:
        newer.setitem(keys.RECIPES, "pruned", keys.RECIPES["pruned"] + 1)
        newer.setattr("advprune.runtime.provenance.code_version", lambda: "newer")
        new = job(*WORDS, store=store)["row"]
    assert made(store)[5:] == ["pruned", "finetuned", "evaluated"]
    assert new["files"]["dense"] == old["files"]["dense"]
    assert {new["files"][k] == old["files"][k] for k in ("finetuned", "evaluated")} == {False}
    results = [json.loads(path.read_text()) for path in store.glob("pruned/*/result.json")]
    assert sorted((r["recipe"], r["provenance"]["code"] == "newer") for r in results) == [
        (keys.RECIPES["pruned"], False),
        (keys.RECIPES["pruned"] + 1, True),
    ]
    assert new["code"] == sorted({*old["code"], "newer"})
    assert any(note.startswith("made by 2 versions of the code (") for note in notes(pool([new])))
    assert not any(note.startswith("made by") for note in notes(pool([old])))
    assert job(*WORDS, store=store)["row"]["files"] == old["files"]
