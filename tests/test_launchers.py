"""hydra/launcher=local and slurm: shares, commands, what is written down of a job that died, what is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, TINY
from omegaconf import OmegaConf

from advprune.errors import UserError
from advprune.launch import attempt, grid, local, processes, serial, slurm, slurm_queue
from advprune.launch.jobs import Job, announce, job_of, quoted, titled
from advprune.launch.memory import GIB, Room
from advprune.launch.shares import Share, at_once, neighbours, shares
from advprune.launch.work import Work
from advprune.pipeline.job import lookup_only
from advprune.runtime.provenance import affinity
from advprune.tracking.grid_place import RECORD

#: A job without torch: writes its record, unless its words say how it is to end instead.
SCRIPT = """
import json, os, pathlib, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["folder"])
(folder / "share.json").write_text(json.dumps([sorted(os.sched_getaffinity(0)), os.environ["CUDA_VISIBLE_DEVICES"],
                                               os.environ["OMP_NUM_THREADS"], os.environ["ADVPRUNE_PROCESSORS"]]))
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


ONE, TWO = [Share()], [Share()] * 2


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(processes, "PRELOADED", ())  # these jobs need no torch
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
        return titled(made, [], len(made))

    return make


def test_a_killed_job_takes_no_other_with_it(
    jobs: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = jobs("ends", "killed", "preempted", "ends", "ends")
    announce(made, tmp_path)
    local.Runner(TWO).run(made)
    records = grid.records(tmp_path)
    assert ["row" in record for record in records] == [True, False, True, True, True]
    assert records[1]["failed"].startswith(
        "killed by signal 9 (SIGKILL), as the system does when memory is short; "
    )
    assert records[1] | {"ratio": 0.1, "names": {"pruner": "hydra"}} == records[1]
    said = capsys.readouterr().out
    assert "job 2 of 5: ratio=0.1; failed, killed by signal 9 (SIGKILL)" in said
    assert "job 3 of 5: ratio=0.2; asked to make room, and goes on" in said


def test_each_job_has_its_share_and_may_run_on_any_core(jobs: Any, tmp_path: Path) -> None:
    """A job that were bound to a core would starve there while another core is idle."""
    made = jobs("ends", "ends")
    local.Runner(shares(2, ["4", "7"], 1, 6)).run(made)
    found = [json.loads((job.folder / "share.json").read_text()) for job in made]
    assert sorted(gpu for _, gpu, _, _ in found) == ["4", "7"]
    assert all([cores, *numbers] == [affinity(), "3", "3"] for cores, _, *numbers in found)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((4, [], 1, 4), [(1,)] * 4),
        ((2, [], 1, 5), [(2,)] * 2),
        ((2, ["0", "1"], 1, 4), [(2, ("0",)), (2, ("1",))]),
        ((2, ["0", "1", "2", "3"], 2, 2), [(1, ("0", "1")), (1, ("2", "3"))]),
        ((1, ["0", "1"], None, 2), [(2, ("0", "1"))]),
        ((3, [], 1, 2), [(1,)] * 3),  # more jobs than cores take turns
        ((2, ["0"], 0, 2), [(1,), (1,)]),
    ],
)
def test_shares(given: Any, expected: Any) -> None:
    assert shares(*given) == [Share(*share) for share in expected]


@pytest.mark.parametrize(
    ("load", "processors", "said"),
    [(0.3, 2, None), (2.9, 2, None), (3.0, 4, "keep 3.0 of this machine's 4 cores busy"),
     (9.0, 1, "keep 4.0 of this machine's 4 cores busy"), (0.9, 4, None)],
)  # fmt: skip
def test_busy_neighbours_are_said(
    monkeypatch: pytest.MonkeyPatch, load: float, processors: int, said: str | None
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    sentence = neighbours(processors)
    assert (sentence is None) if said is None else (sentence is not None and said in sentence)


@pytest.mark.parametrize(
    ("jobs", "gpus", "each", "processors", "expected"),
    [(None, [], 1, 4, 4), (None, [], 2, 5, 2), (None, [], None, 4, 4), (None, ["0"], 1, 16, 1),
     (None, ["0", "1", "2"], 1, 2, 3), (None, ["0", "1", "2"], None, 2, 1),
     (None, ["0"], 0, 6, 6), (5, [], 1, 2, 5), (None, [], 4, 2, 1)],
)  # fmt: skip
def test_how_many_at_a_time(
    jobs: int | None, gpus: list[str], each: int | None, processors: int, expected: int
) -> None:
    assert at_once({"jobs": jobs, "gpus_per_job": each}, gpus, processors) == expected


def test_more_jobs_than_gpus_is_a_sentence() -> None:
    with pytest.raises(
        UserError, match=r"hydra.launcher.jobs=3 with 1 GPUs each is not possible, with 2 here"
    ):
        at_once({"jobs": 3, "gpus_per_job": 1}, ["0", "1"], 1)


@pytest.mark.parametrize(
    ("jobs", "options", "processors", "expected"),
    [(9, {}, 2, False), (9, {}, 1, True), (1, {}, 8, True), (9, {"jobs": 1}, 1, False),
     (9, {"gpus_per_job": 2}, 2, True), (9, {"gpus_per_job": 2}, 4, False)],
)  # fmt: skip
def test_one_core_or_one_job_stays_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    options: dict[str, Any],
    processors: int,
    expected: bool,
) -> None:
    monkeypatch.setattr(serial, "usable_processors", lambda: processors)
    monkeypatch.setattr(serial, "debugging", lambda: False)
    known = {"jobs": None, "gpus": None, "gpus_per_job": 1, "accelerator": "cpu"}
    assert serial.stays_here(jobs, known | options) is expected


def test_a_debugger_stays_in_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"jobs": None, "gpus": [], "gpus_per_job": 1, "accelerator": "cpu"}
    monkeypatch.setattr(serial, "usable_processors", lambda: 8)
    monkeypatch.setattr(sys, "gettrace", lambda: None)  # coverage traces, too
    monkeypatch.setattr(sys, "modules", {name: sys.modules[name] for name in sys.modules
                                         if name not in ("debugpy", "pydevd")})  # fmt: skip
    assert not serial.stays_here(4, options)
    monkeypatch.setitem(sys.modules, "debugpy", os)
    assert serial.stays_here(4, options)
    assert "a debugger is attached" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "debugpy")
    monkeypatch.setattr(sys, "gettrace", lambda: print)
    assert serial.stays_here(4, options)


def test_each_of_several_ranks_runs_the_grid_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(serial, "usable_processors", lambda: 8)
    assert serial.stays_here(4, {"jobs": None})


def test_asked_to_stop_the_jobs_save(jobs: Any, tmp_path: Path) -> None:
    """The exception of a Ctrl-C or a SIGTERM comes to the main thread while it waits."""
    made = jobs("waits", "waits")
    runner = local.Runner(ONE)

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


#: A parent that runs the two commands it is given, two at a time.
PARENT = """
import json, pathlib, sys
from advprune.launch import local, processes
from advprune.launch.jobs import Job
from advprune.launch.shares import Share
processes.PRELOADED = ()
jobs = [Job(n, [], pathlib.Path(folder), command) for n, (folder, command) in enumerate(json.loads(sys.argv[1]))]
local.Runner([Share()] * 2).run(jobs)
"""


def test_the_first_job_with_larger_images_shows_what_memory_it_takes(
    jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    taken = {1: 3 * GIB, 2: 0}
    runner = local.Runner(TWO, room=Room(GIB, lambda: 8 * GIB, taken.__getitem__))
    runner.begun = 100.0
    for number, small in ((1, True), (2, False)):
        job = replace(jobs("ends")[0], work=Work(small=small))
        assert runner._fits()
        process = SimpleNamespace(pid=number)
        runner.running.append(local.Running(job, process, Share(), now[0]))  # type: ignore[arg-type]
    assert not runner._fits()
    now[0] += local.ALONE
    assert runner._fits()  # 8 GiB, less the 3 that the second may still take: one more
    taken[2] = 5 * GIB
    assert runner._fits()  # each may take 5 GiB now, the first 2 more: 6 are left for one
    taken[2] = 7 * GIB
    assert not runner._fits()


def test_jobs_whose_grid_is_killed_save_and_end(jobs: Any) -> None:
    """No orphan goes on computing silently."""
    made = jobs("waits", "waits")
    given = json.dumps([(str(job.folder), job.command) for job in made])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, given],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    wait_for(lambda: all((job.folder / "waiting").exists() for job in made))
    parent.kill()
    parent.wait()
    wait_for(lambda: all((job.folder / "saved").exists() for job in made))


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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


def test_a_title_has_the_words_that_vary_in_the_whole_grid() -> None:
    """Of two ratios one is in the store already: the jobs that are left share theirs."""
    grid_words = [[f"pruner={p}", f"ratio={r}", "seed=1"] for p in ("a", "b") for r in (0.5, 0.9)]
    left = [Job(n, words, Path(), []) for n, words in ((2, grid_words[1]), (3, grid_words[3]))]
    assert [job.title for job in titled(left, grid_words, 4)] == [
        "job 3 of 4: pruner=a ratio=0.9",
        "job 4 of 4: pruner=b ratio=0.9",
    ]
    assert titled(left, [], 4)[0].title == "job 3 of 4: pruner=a"  # a search's: the rest is unknown
    assert titled(left[:1], grid_words[:1], 1)[0].title.endswith("pruner=a ratio=0.9 seed=1")


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
    launcher = (
        "hydra/launcher=local",
        "hydra.launcher.jobs=2",
    )  # one core alone would run them here
    command = [sys.executable, "prune.py", "-m", *launcher, *TINY, *places]
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
