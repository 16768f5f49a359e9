"""hydra/launcher=local and slurm: shares, commands, what is written down of a job that died, what is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY
from omegaconf import OmegaConf

from advprune.errors import UserError
from advprune.launch import attempt, grid, local, memory, slurm, slurm_queue
from advprune.launch.jobs import Job, announce, job_of, quoted, titled
from advprune.pipeline.job import lookup_only
from advprune.runtime.provenance import affinity
from advprune.tracking.grid_place import RECORD

#: A job without torch: writes its record, unless its words say how it is to end instead.
SCRIPT = """
import json, os, pathlib, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["folder"])
(folder / "share.json").write_text(json.dumps([sorted(os.sched_getaffinity(0)), os.environ["CUDA_VISIBLE_DEVICES"],
                                               os.environ["OMP_NUM_THREADS"]]))
first = not (folder / "been").exists()
(folder / "been").touch()
if words["ends"] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if words["ends"] == "preempted" and first:
    sys.exit(128 + signal.SIGUSR1)
if words["ends"] == "waits":
    def saved(*_):
        (folder / "saved").touch()
        sys.exit(128 + signal.SIGTERM)
    signal.signal(signal.SIGTERM, saved)
    (folder / "waiting").touch()
    time.sleep(1200)
time.sleep(0.3)
(folder / "job.json").write_text(json.dumps({"number": int(words["number"]), "overrides": [], "row": {}, "value": 0.5}))
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Any:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def make(*ends: str) -> list[Job]:
        made = []
        for number, end in enumerate(ends):
            folder = tmp_path / str(number)
            words = [f"folder={folder}", f"number={number}", f"ends={end}"]
            made.append(
                Job(number, [f"ratio=0.{number}", "pruner=hydra"], folder, [str(script), *words])
            )
        return titled(made, len(made))

    return make


def test_a_killed_job_takes_no_other_with_it(
    jobs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = jobs("ends", "killed", "preempted", "ends", "ends")
    announce(made, tmp_path)
    local.Runner(local.shares(2, [], 1, [0])).run(made)
    records = grid.records(tmp_path)
    assert ["row" in record for record in records] == [True, False, True, True, True]
    assert records[1]["failed"].startswith(
        "killed by signal 9 (SIGKILL), as the system does when memory is short; "
    )
    assert records[1] | {"ratio": 0.1, "names": {"pruner": "hydra"}} == records[1]
    said = capsys.readouterr().out
    assert "job 2 of 5: ratio=0.1; failed, killed by signal 9 (SIGKILL)" in said
    assert "job 3 of 5: ratio=0.2; asked to make room, and goes on" in said


def test_each_job_has_its_share(jobs: Any, tmp_path: Path) -> None:
    cores = affinity()
    made = jobs("ends", "ends")
    local.Runner(local.shares(2, ["4", "7"], 1, cores)).run(made)
    found = [json.loads((job.folder / "share.json").read_text()) for job in made]
    assert sorted(gpu for _, gpu, _ in found) == ["4", "7"]
    if len(cores) > 1:
        assert not set(found[0][0]) & set(found[1][0])
    assert all(int(threads) == len(own) == max(len(cores) // 2, 1) for own, _, threads in found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, [], 1, [0, 1, 2, 3]), [([0], []), ([1], []), ([2], []), ([3], [])]),
        ((2, [], 1, [0, 1, 2, 3]), [([0, 1], []), ([2, 3], [])]),
        ((None, ["0", "1"], 1, [0, 1, 2, 3]), [([0, 1], ["0"]), ([2, 3], ["1"])]),
        ((None, ["0", "1", "2", "3"], 2, [0, 1]), [([0], ["0", "1"]), ([1], ["2", "3"])]),
        ((3, [], 1, [5, 6]), [([5], []), ([6], []), ([5], [])]),
        ((2, ["0"], 0, [0, 1]), [([0], []), ([1], [])]),
    ],
)
def test_shares(given: Any, expected: Any) -> None:
    assert local.shares(*given) == expected


def test_more_jobs_than_gpus_is_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"hydra.launcher.jobs=3 with 1 GPUs each is not possible, with 2 here"
    ):
        local.shares(3, ["0", "1"], 1, [0])


def test_asked_to_stop_the_jobs_save(jobs: Any, tmp_path: Path) -> None:
    """The exception of a Ctrl-C or a SIGTERM comes to the main thread while it waits."""
    made = jobs("waits", "waits")
    runner = local.Runner(local.shares(1, [], 1, [0]))

    def interrupt() -> None:
        while not (made[0].folder / "waiting").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background ignores it
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run(made)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (made[0].folder / "saved").exists()
    assert not made[1].folder.exists() or not (made[1].folder / "waiting").exists()
    assert not any(job.ended for job in made)  # neither failed: the same command goes on


def test_how_a_process_ended() -> None:
    assert local.ending(-11) == "killed by signal 11 (SIGSEGV)"
    assert local.ending(137) == "stopped by signal 9 (SIGKILL)"
    assert local.ending(3) == "ended with code 3 and no result"


def config(**hydra: Any) -> Any:
    job = {"config_name": "prune", "num": 0}
    return OmegaConf.create(
        {
            "hydra": {
                "job": job,
                "overrides": {"hydra": hydra.pop("words", [])},
                "runtime": {"config_sources": []},
                **hydra,
            }
        }
    )


def test_the_command_of_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "prune.py"), "-m", "ratio=0.5,0.9"])
    own = [
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        "hydra.sweep.dir=x",
        "hydra.verbose=true",
    ]
    overrides = ["ratio=0.5", "hydra.sweep.dir=y", "++hydra.job.env_set.A='b'"]
    made = job_of(config(words=own), 7, overrides, Path("/a b/it's"))
    assert made.overrides == ["ratio=0.5"]
    assert made.command == [
        str(tmp_path / "prune.py"),
        "--config-name",
        "prune",
        "ratio=0.5",
        "hydra.verbose=true",
        "++hydra.job.env_set.A='b'",
        "hydra.run.dir='/a b/it\\'s'",
        "hydra.job.num=7",
        "hydra.mode=RUN",
        "~hydra.callbacks.grid",
    ]


def test_quoted_words_are_taken_literally() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for text in ("plain", "/a b/c,d=e", "it's", '["x",{"a":1}]', "back\\slash", "tail\\", "a\\'b"):
        (parsed,) = OverridesParser.create().parse_overrides([f"key={quoted(text)}"])
        assert parsed.value() == text


def test_a_table_of_jobs_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(grid.EXIT, "code", 0)
    made = [Job(n, [f"ratio=0.{n}"], tmp_path / str(n), []) for n in range(3)]
    announce(made, tmp_path)
    made[2].died("killed by signal 9 (SIGKILL)")
    grid.report_jobs(grid.records(tmp_path), tmp_path)
    out, failures = capsys.readouterr()
    assert "ratio=0.2: killed by signal 9 (SIGKILL)" in failures
    assert "2 of 3 jobs have not ended yet" in out
    assert grid.EXIT["code"] == 1


def test_slurm_without_slurm_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="needs the extra slurm")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"srun is not here: .* or use hydra/launcher=local"):
        slurm.submit([], tmp_path, {"max_num_timeout": 1, "python": None})


def test_a_limit_that_ends_jobs_at_once_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"hydra.launcher.timeout_min=2 is not longer than signal_delay_s=120"
    ):
        slurm.check({"timeout_min": 2, "signal_delay_s": 120})


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (("FAILED", "0:9"), "SLURM says FAILED, killed by signal 9 (SIGKILL)"),
        (("FAILED", "137:0"), "SLURM says FAILED, killed by signal 9 (SIGKILL)"),
        (("OUT_OF_MEMORY", "0:125"), "SLURM says OUT_OF_MEMORY, code 0:125"),
        (("TIMEOUT", "0:0"), "SLURM says TIMEOUT, code 0:0"),
    ],
)
def test_slurm_s_words(told: tuple[str, str], sentence: str) -> None:
    assert slurm_queue._sentence(*told) == sentence


@pytest.mark.parametrize(("state", "requeued"), [("RUNNING", True), ("COMPLETING", False)])
def test_an_attempt_requeues_itself_unless_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, requeued: bool
) -> None:
    submitit = pytest.importorskip("submitit", reason="needs the extra slurm")
    script, calls = tmp_path / "script.py", []
    script.write_text("import sys; sys.exit(128 + 10)")  # as a command that SIGUSR1 stopped
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess(a, 0, f"JobState={state} x", ""),
    )
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setattr(sys, "path", list(sys.path))
    number = submitit.JobEnvironment._usr_sig()
    before = signal.signal(number, lambda *a: calls.append(a[0]))
    try:
        assert attempt.Attempt([str(script)])() == 138
    finally:
        signal.signal(number, before)
    assert calls == ([number] if requeued else [])


def test_looking_leaves_no_trace(job: Any, tmp_path: Path) -> None:
    words = (*TINY, "pruner=random", "ratio=0.5")
    with lookup_only(), pytest.raises(FileNotFoundError, match=RECORD):
        job(*words)  # whose record is read afterwards
    assert not (tmp_path / "stages").exists()
    made = job(*words)
    with lookup_only():
        assert job(*words)["value"] == made["value"]


@pytest.mark.slow
def test_a_grid_on_this_machine(tmp_path: Path) -> None:
    places = (f"store={tmp_path}/stages", "pruner=magnitude,random", "ratio=0.5")
    command = [sys.executable, "prune.py", "-m", "hydra/launcher=local", *TINY, *places]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    for name, launched in (("first", True), ("second", False)):
        done = subprocess.run(
            [*command, f"hydra.sweep.dir={tmp_path}/{name}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=2400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows = json.loads((tmp_path / name / "table.json").read_text())
        assert [row["pruner"] for row in rows] == ["magnitude", "random"]
        assert (
            tmp_path / name / "launched.json"
        ).exists() == launched  # what is in the store is not launched
        assert ("job 2 of 2: pruner=random; done" in done.stdout) == launched


def test_as_many_jobs_at_a_time_as_memory_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meminfo = tmp_path / "meminfo"
    assert memory.free_memory(meminfo) is None  # not Linux
    meminfo.write_text("MemTotal:       16000000 kB\nMemAvailable:    4194304 kB\n")
    assert memory.free_memory(meminfo) == 4 * 2**30
    assert [memory.fitting(jobs, 4 * 2**30) for jobs in (1, 2, 8)] == [1, 2, 2]
    assert memory.fitting(8, None) == 8
    assert memory.fitting(8, 0) == 1
    each = local.shares(4, [], 1, [0, 1, 2, 3])
    assert local._as_many_as_fit(each, 4 * 2**30) == each[:2]
    said = capsys.readouterr()
    assert "4.0 GiB of memory are free, enough for 2 at a time and not for 4" in said.out + said.err
    assert local._as_many_as_fit(each, 2**40) == each
