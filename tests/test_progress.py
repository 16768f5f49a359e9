"""How far a job and its grid are, in words: on a terminal, in a log, and of AutoAttack part by part."""

import io
import itertools
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY
from rich.console import Console
from torch import Tensor, nn

from advprune.attacks.autoattack import autoattack
from advprune.attacks.monitor import AttackMonitor
from advprune.attacks.worst_of import worst_of
from advprune.config.smoke import DOUBT, shrink
from advprune.launch.grid_display import GridDisplay, last_line
from advprune.pipeline.job_log import title_of
from advprune.report.data.intervals import pool
from advprune.report.data.names import Names
from advprune.report.data.run_row import run_row
from advprune.report.data.store_reader import Reader
from advprune.report.table.footnotes import notes
from advprune.runtime import preemption
from advprune.threat import Linf
from advprune.tracking import grid_place
from advprune.tracking.grid_place import GridPlace
from advprune.tracking.progress import PHASES, JobTitle, PhaseProgress, duration, phase_of
from advprune.tracking.show_progress import ShowProgress
from advprune.tracking.stage_times import write_stages
from advprune.tracking.terminal_line import Foot


class Clock:
    """Seconds that pass only when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def grid(tmp_path: Path) -> GridPlace:
    """The third of twelve jobs, of three stages each. Two ended, and this one has run for 30 s.

    The dense network took 100 s and is shared; two prunings took 20 and 40 s, their evaluations 60.
    """
    store, jobs = tmp_path / "store", [["pruner=hydra", f"seed={n}"] for n in range(12)]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    write_stages(tmp_path, {tuple(job): [store / "dense" / "d", *own_stages(store, number)]
                            for number, job in enumerate(jobs)})  # fmt: skip
    finish(store / "dense" / "d", 100)
    for number, seconds in enumerate((20, 40)):
        finish(own_stages(store, number)[0], seconds)
        finish(own_stages(store, number)[1], 60)
    for number, record in enumerate(({"row": {"made": 3}}, {"row": {"made": 2}}, {"pid": 1})):
        record_job(tmp_path, number, record)
    pruning = own_stages(store, 2)[0]
    pruning.mkdir(parents=True)
    (pruning / "config.yaml").touch()
    begun = (pruning / "config.yaml").stat().st_mtime
    return GridPlace(tmp_path, 12, 2, lambda: begun + 10)


def own_stages(store: Path, number: int) -> list[Path]:
    return [store / "pruned" / f"p{number}", store / "evaluated" / f"e{number}"]


def finish(stage: Path, seconds: float) -> None:
    stage.mkdir(parents=True, exist_ok=True)
    (stage / "result.json").write_text(json.dumps({"seconds": seconds}))


def record_job(folder: Path, number: int, record: dict[str, Any]) -> None:
    (folder / str(number)).mkdir(exist_ok=True)
    words = {"overrides": ["pruner=hydra", f"seed={number}"]}
    (folder / str(number) / "job.json").write_text(json.dumps(words | record))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (46.4, "46 s"), (99, "99 s"), (100, "2 min"), (360, "6 min"), (5940, "99 min"),
     (7200, "2 h"), (7800, "2 h 10 min"), (260_000, "3 days")],
)  # fmt: skip
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_every_stage_has_words_and_no_hash() -> None:
    assert {"dense", "pruned", "finetuned", "quantized", "evaluated", "examples"} < set(PHASES)
    assert phase_of("source_dense") == "dense training of the source"
    assert phase_of("evaluated_dense") == "evaluating the dense network"


def test_the_line_of_a_job_in_a_grid(grid: GridPlace) -> None:
    clock = Clock()
    phase = PhaseProgress(JobTitle("hydra 0.9, seed 1", grid), "fine-tuning", clock)
    phase.total = 20
    phase.begin(0)
    assert phase.line().startswith("job 3 of 12: hydra 0.9, seed 1 · fine-tuning 1/20 · grid ")
    clock.now, phase.done = 1046.0, 10  # ten epochs in 46 s: ten more take as long
    # the grid: ten prunings of 30 s, one of them 10 s under way, and ten evaluations of 60 s
    expected = "job 3 of 12: hydra 0.9, seed 1 · fine-tuning 10/20 · 46 s left · grid 15 min left"
    assert phase.line() == expected


def test_jobs_that_run_together_share_the_time(grid: GridPlace) -> None:
    assert grid.seconds_left() == pytest.approx(10 * (30 + 60) - 10)
    record_job(grid.folder, 3, {"pid": 2})
    again = GridPlace(grid.folder, 12, 2, grid.clock)
    assert again.seconds_left() == pytest.approx((10 * (30 + 60) - 10) / 2)
    record_job(grid.folder, 3, {"pid": 2, "failed": "it did"})  # it makes nothing any more
    last = GridPlace(grid.folder, 12, 2, grid.clock)
    assert last.seconds_left() == pytest.approx(9 * (30 + 60) - 10)
    assert last.summary() == "3 of 12 jobs done · 1 failed · 1 under way · grid 13 min left"


def test_a_stage_that_several_jobs_need_is_counted_once(grid: GridPlace) -> None:
    """A mean over jobs would take each for as long as the one that trained the dense network."""
    (grid.folder / "store" / "dense" / "d" / "result.json").unlink()
    assert grid.seconds_left() is None  # nothing tells how long a dense network takes
    finish(grid.folder / "store" / "dense" / "other", 100)
    stages = json.loads((grid.folder / "stages.json").read_text())
    stages[0][1].append(str(grid.folder / "store" / "dense" / "other"))
    (grid.folder / "stages.json").write_text(json.dumps(stages))
    again = GridPlace(grid.folder, 12, 2, grid.clock)
    assert again.seconds_left() == pytest.approx(100 + 10 * (30 + 60) - 10)


def test_nothing_is_promised_once_all_stages_take_longer_or_are_made(grid: GridPlace) -> None:
    for number in range(3, 12):
        record_job(grid.folder, number, {"row": {}})
    finish(own_stages(grid.folder / "store", 2)[0], 30)
    evaluation = own_stages(grid.folder / "store", 2)[1]
    evaluation.mkdir(parents=True)
    (evaluation / "config.yaml").touch()
    late = (evaluation / "config.yaml").stat().st_mtime + 61
    last = GridPlace(grid.folder, 12, 2, lambda: late)
    assert last.summary() == "11 of 12 jobs done · 1 under way"
    record_job(grid.folder, 2, {"row": {}})
    assert GridPlace(grid.folder, 12, 2, lambda: late).summary() == "12 of 12 jobs done"


def test_nothing_is_promised_where_nothing_is_known(tmp_path: Path) -> None:
    record_job(tmp_path, 0, {"row": {"made": 0}})
    assert GridPlace(tmp_path, 3).seconds_left() is None
    assert GridPlace(tmp_path, 3).summary() == "1 of 3 jobs done"


def test_the_clock_starts_where_a_killed_phase_goes_on() -> None:
    """Lightning's and tqdm's count the epochs of the earlier attempt into the pace."""
    clock = Clock()
    phase = PhaseProgress(JobTitle(), "dense training", clock)
    phase.total = 100
    phase.begin(90.5)
    clock.now += 10
    phase.done = 91.5
    assert phase.seconds_left() == pytest.approx(85)


def test_a_title_has_what_the_grid_varies(tmp_path: Path) -> None:
    words = [["model=resnet18", "pruner=hydra", "ratio=0.9", f"attack={attack}", f"finetune.epochs={n}"]
             for attack in ("pgd", "autoattack") for n in (1, 2)]  # fmt: skip
    record = {
        "names": {"pruner": "hydra"},
        "ratio": 0.9,
        "seed": 0,
        "number": 3,
        "overrides": words[3],
    }
    lone = title_of(record, tmp_path / "3")
    assert str(lone) == "hydra 0.9, seed 0"
    (tmp_path / "jobs.json").write_text(json.dumps(words))
    expected = "job 4 of 4: hydra 0.9, autoattack, finetune.epochs=2, seed 0"
    assert str(title_of(record, tmp_path / "3")) == expected
    dense = {"names": {}, "ratio": 0.9, "seed": 7, "number": 0, "overrides": []}
    assert str(title_of(dense, tmp_path / "a" / "b" / "c")) == "dense, seed 7"


def test_a_grids_words_are_read_once_for_all_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a thousand finished jobs read those of all, and compared them: a million comparisons."""
    read: list[Path] = []
    monkeypatch.setattr(
        grid_place, "read_json", lambda path: read.append(path) or json.loads(path.read_text())
    )
    path = tmp_path / "jobs.json"
    for grid in ([["a=1", "b=2"], ["a=1", "b=3"]], [["a=1"], ["a=1"], ["a=1", "c=4"]]):
        path.write_text(json.dumps(grid))
        os.utime(path, ns=(len(grid), len(grid)))
        assert [grid_place.grid_words(tmp_path) for _ in grid] == [(len(grid), {"a=1"})] * len(grid)
    assert read == [path, path]


def lightning(**facts: Any) -> Any:
    """What a callback reads of Lightning's trainer."""
    return SimpleNamespace(current_epoch=0, num_training_batches=4, max_epochs=2, **facts)


def test_a_training_writes_a_line_an_epoch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shown = ShowProgress(PhaseProgress(JobTitle("dense, seed 0"), "dense training", Clock()))
    measured = {
        "loss": torch.tensor(0.5),
        "val/clean_acc": torch.tensor(0.9),
        "val/robust_acc": torch.tensor(0.25),
    }
    trainer, module = lightning(callback_metrics=measured), Any
    shown.on_train_start(trainer, module)
    for epoch in range(2):
        trainer.current_epoch = epoch
        for index in range(4):
            shown.on_train_batch_start(trainer, module, None, index)
            shown.on_train_batch_end(trainer, module, None, None, index)
            assert f"training {epoch + 1}/2" in shown.phase.line()
        shown.on_train_epoch_end(trainer, module)
    facts = "loss 0.500, validation 90.0 % clean, 25.0 % robust"
    assert caplog.messages == [
        f"dense, seed 0 · dense training 1/2 · {facts} · 0 s left",
        f"dense, seed 0 · dense training 2/2 · {facts}",
    ]


def test_an_evaluation_of_many_batches_does_not_flood_a_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    shown = ShowProgress(PhaseProgress(JobTitle("dense, seed 0"), "evaluating", clock))
    trainer = lightning(num_test_batches=[400])
    shown.on_test_start(trainer, Any)
    for index in range(400):
        clock.now += 0.5
        shown.advance_part("apgd-ce", 0.5)
        shown.finish_part("apgd-ce", torch.tensor([True, False]))
        outputs = {"robust": index % 2, "images": 2}
        shown.on_test_batch_end(trainer, Any, outputs, None, index)
    assert 10 < len(caplog.messages) < 30  # in 200 s
    assert caplog.messages[0].startswith(
        "dense, seed 0 · evaluating 1/400 · robust after APGD-CE: 50.0 % of 2 images"
    )
    assert caplog.messages[-1] == "dense, seed 0 · evaluating 400/400 · robust 25.0 % of 800 images"


class Heard(AttackMonitor):
    """What an attack says while it runs."""

    def __init__(self) -> None:
        self.shares: dict[str, list[float]] = {}
        self.right: dict[str, float] = {}

    def advance_part(self, part: str, share: float) -> None:
        assert 0 <= share <= 1
        self.shares.setdefault(part, []).append(share)

    def finish_part(self, part: str, right: Tensor) -> None:
        self.right[part] = right.float().mean().item()


class Planes(nn.Module):
    """A linear network; the attack moves no image across its border if ``firm``."""

    def __init__(self, *, firm: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            0.001 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
        )
        self.register_buffer("bias", torch.tensor([9.0, 0, 0, 0, 0]) * firm)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


@pytest.mark.parametrize("engine", [None, "fast"])
def test_autoattack_says_what_each_part_leaves(engine: Any) -> None:
    x, y, heard, trail = torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.long), Heard(), []
    parts: Any = ["apgd-ce", "fab-t"]
    autoattack(Planes(firm=True), x, y, threat=Linf(0.1), version="custom", attacks=parts, engine=engine,
               monitor=heard, trail=trail)  # fmt: skip
    assert (
        heard.right
        == {name: flags.float().mean().item() for name, flags in trail[1:]}
        == {"apgd-ce": 1, "fab-t": 1}
    )
    for part in parts:  # further and further, and to the end
        assert heard.shares[part] == sorted(heard.shares[part])
        assert heard.shares[part][-1] > 0.9


def test_the_package_is_quiet_about_its_version(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    level = logging.getLogger("auto-attack").level
    x, y = torch.rand(2, 1, 2, 2), torch.ones(2, dtype=torch.long)
    autoattack(Planes(firm=True), x, y, threat=Linf(0.1))
    assert "setting parameters" not in caplog.text
    assert logging.getLogger("auto-attack").level == level


def test_worst_of_says_which_attack_is_next() -> None:
    x, y, heard = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.long), Heard()
    attacks: Any = {"one": lambda model, x, y: x, "two": lambda model, x, y: x}
    worst_of(Planes(firm=True), x, y, attacks=attacks, monitor=heard)
    assert heard.shares == {"one": [0.0], "two": [0.5]}
    assert heard.right == {"one": 1.0, "two": 1.0}


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_terminal_has_one_line_that_fits(width: int) -> None:
    console = terminal(width)
    phase = PhaseProgress(JobTitle("hydra 0.99, resnet18, seed 1"), "fine-tuning", Clock())
    phase.facts, phase.total = ["loss 0.123, validation 61.0 % clean, 51.2 % robust"], 20
    phase.done = 10
    shown = ShowProgress(phase, console)
    console.print(shown._drawn(width))
    (line,) = console.file.getvalue().rstrip("\n").split("\n")
    assert len(line) <= width
    assert "fine-tuning" in line
    assert ("robust" in line) == (width > 130)
    assert ("━" in line) == (width > 130)


def test_what_is_logged_meanwhile_stands_above_the_line_and_nothing_of_it_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console, root = terminal(80), logging.getLogger()
    monkeypatch.setattr(sys, "stdout", console.file)
    handler = logging.StreamHandler(sys.stdout)
    root.addHandler(handler)
    foot = Foot(lambda width: "THE LINE", console)
    try:
        foot.open()
        root.warning("a word")
        assert handler.stream is not console.file
    finally:
        foot.close()
        root.removeHandler(handler)
    assert handler.stream is console.file
    drawn = console.file.getvalue()
    assert drawn.index("a word") < drawn.rindex("THE LINE")
    assert drawn.endswith(("\x1b[2K", "\x1b[?25h"))  # the line is erased, and the cursor is back


def test_a_grid_elsewhere_shows_what_its_jobs_say(
    grid: GridPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    log = grid.folder / "2" / "output.log"
    log.write_text(
        "warning\n[05:02:48] job 3 of 12: hydra, seed 2 · pruning 1/2 · 5 s left · grid 3 min left\nnoise\n"
    )
    assert last_line(log) == "job 3 of 12: hydra, seed 2 · pruning 1/2 · 5 s left"
    assert last_line(grid.folder / "none") is None
    console = terminal(60)
    display = GridDisplay(grid, console)
    display.begun("job 3 of 12: seed=2", log)
    console.print(display.drawn(60))
    assert console.file.getvalue().splitlines() == [
        "job 3 of 12: hydra, seed 2 · pruning 1/2 · 5 s left",
        "2 of 12 jobs done · 1 under way · grid 15 min left",
    ]
    display.begun("job 4 of 12: seed=3", grid.folder / "none")
    display.hold(2)
    console = terminal(60)
    console.print(display.drawn(60))
    assert console.file.getvalue().splitlines()[1:3] == [
        "1 job has not begun yet",
        "2 jobs wait for a stage that is being made",
    ]
    display.ended("job 3 of 12: seed=2", "done (31 s)")
    assert capsys.readouterr().out == (
        "job 3 of 12: seed=2; done (31 s) · 2 of 12 jobs done · 1 under way · grid 15 min left\n"
    )


def test_smoke_makes_every_stage_small_and_says_that_its_numbers_mean_nothing(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    words = (
        "debug=smoke",
        "trainer=cpu",
        "model.widths=[4,4,4]",
        "quantizer=ptq_static",
        "tags=[paper]",
    )
    made = job("pruner=magnitude", "ratio=0.5", *words, store=tmp_path / "stages")
    row = made["row"]
    assert (row["made"], row["images"], row["epochs"]) == (6, 8, [2, 0, 2])
    assert DOUBT in row["doubts"]
    assert any(DOUBT in note for note in notes(pool([row])))
    (run, *_) = Reader(tmp_path / "stages").runs()  # what the page is made of
    assert DOUBT in run_row(run, Names([]))["doubts"]


def test_smoke_makes_nothing_larger_and_leaves_what_is_no_size() -> None:
    before = {"attack": {"images": 4, "steps": 1}, "dataset": {"train_images": None, "validation": 0.1},
              "pruner": {"n": 2, "m": 4, "rounds": 10, "criterion": None}, "training": {"epochs": 100, "warmup_epochs": 5.0},
              "quantizer": {"images": None}, "seed": 3}  # fmt: skip
    assert shrink(before) == {
        "attack": {"images": 4, "steps": 1}, "dataset": {"train_images": 256, "validation": 0.1},
        "pruner": {"n": 2, "m": 4, "rounds": 2, "criterion": None}, "training": {"epochs": 2, "warmup_epochs": 0},
        "quantizer": {"images": None}, "seed": 3,
    }  # fmt: skip


def test_a_phase_that_goes_on_within_an_epoch_counts_from_there(
    job: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's issues 13124 and 18220: negative or tiny times after a resume within an epoch."""
    calls = itertools.count()  # each epoch's start, and each of its 3 batches but the last
    with monkeypatch.context() as patch:
        patch.setattr(preemption, "asked", lambda: signal.SIGTERM if next(calls) == 4 else None)
        with pytest.raises(preemption.Stopped):
            job(*TINY, command="train")
    begun: list[float] = []
    monkeypatch.setattr(PhaseProgress, "begin", lambda self, done: begun.append(done))
    job(*TINY, command="train")
    assert begun == [1 + 1 / 4, 0.0]  # one batch of the second epoch is done; then the evaluation
