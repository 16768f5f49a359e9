"""What a user is told at the end: doubts in every format, their own words as they are, and a true exit code."""

import csv
import io
import json
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig

from advprune.config.job_names import command
from advprune.errors import UserError
from advprune.launch import grid
from advprune.launch.skip_finished import SkipFinishedLauncher
from advprune.report.data.attack_names import threat_text
from advprune.report.data.escaping import latex_cell, markdown_cell
from advprune.report.data.failures import cause
from advprune.report.data.runs import StoredStage
from advprune.report.page.export import as_json, latex, markdown, rows_and_stages, table
from advprune.report.page.leaderboard import shown_fields
from advprune.report.page.render import page
from advprune.report.page.run_details import _used_options
from advprune.report.table import terminal as tables
from advprune.report.table.footnotes import doubt_notes
from advprune.report.table.job_row import OVERSTATES, doubts_of, strength
from advprune.report.table.terminal import csv_cell, csv_text
from advprune.runtime.provenance import version_of
from advprune.runtime.safe_files import write_atomically
from advprune.tracking.wandb_parts import flat

DOUBT = "the network gives <b>every</b> image the same class"
ROW: dict[str, Any] = {
    "dataset": "d",
    "model": "m",
    "objective": "o",
    "pruner": "p",
    "ratio": 0.5,
    "quantizer": None,
    "options": "",
    "sparsity": 0.5,
    "unit": "weights",
    "attack": "pgd",
    "eps": 0.15,
    "norm": "linf",
    "source": None,
    "images": 50,
    "of": 359,
    "seeds": 2,
    "clean_acc": 0.9,
    "robust_acc": 0.5,
    "doubts": [DOUBT],
    "costs": {},
    "identity": "i",
    "runs": {0: "abc", 1: "def"},
    "commands": {0: "python prune.py seed=0", 1: "python prune.py seed=1"},
    "perturbation": None,
    "published": False,
}
FULL = {"after_each": dict.fromkeys(("clean", "apgd-ce", "apgd-t", "fab-t", "square"), 0.4)}


def row(**changes: Any) -> dict[str, Any]:
    made = ROW | changes
    return made | {"doubts": doubts_of(made)}


def test_doubts_norm_strength_images_and_seeds_stand_in_every_format() -> None:
    rows = [row(), row(attack="autoattack", doubts=[], identity="j", **FULL)]
    names = [field.name for field in shown_fields(rows)[0]]
    assert {"doubts", "strength", "images", "of", "seeds"} <= set(names)
    assert names[:5] == ["model", "method", "ratio", "clean_acc", "robust_acc"]
    (listed, full), text = list(csv.DictReader(io.StringIO(table(rows)))), markdown(rows)
    assert DOUBT in listed["doubts"]
    assert OVERSTATES in listed["doubts"]
    assert not full["doubts"]
    assert (listed["strength"], full["strength"]) == ("upper bound", "AutoAttack")
    assert (listed["threat"], listed["images"], listed["of"], listed["seeds"]) == (
        "linf 0.15",
        "50",
        "359",
        "2",
    )
    assert "python prune.py seed=0 && python prune.py seed=1" in listed["command"]
    assert "linf 0.15" in text
    assert markdown_cell(DOUBT) in text
    assert "\n    python prune.py seed=1\n" in text
    set_in_tex = latex(rows, "100 % of_it")
    assert DOUBT in set_in_tex
    assert "linf 0.15" in set_in_tex
    assert "% python prune.py seed=0" in set_in_tex
    told = json.loads(as_json(rows_and_stages([r | {"runs": {}} for r in rows], {})))
    assert [r["doubts"][0] for r in told["rows"][:1]] == [DOUBT]
    assert told["rows"][0]["strength"] == "upper bound"
    report = SimpleNamespace(runs=2, problems=["gone: <i>left out</i>"], compared=0, left_out=[])
    html = page(
        rows, [], [], {}, outcomes={}, report=report, store="st", finished="now", out=Path()
    )
    for wanted in (
        "&lt;b&gt;every&lt;/b&gt;",
        "&lt;i&gt;left out",
        "linf 0.15",
        'data-command="python prune.py seed=0\npython prune.py seed=1"',
        "⚠ 2",
    ):
        assert wanted in html
    assert "<b>every" not in html


def test_doubts_reach_wandb_and_name_their_rows() -> None:
    assert flat({"doubts": ["a", "b"], "robust_acc": 0.5})["doubts"] == "a; b"
    assert flat({"robust_acc": 0.5})["doubts"] == ""
    said = doubt_notes([row(), row(pruner="q", doubts=[])], lambda r: r["pruner"])
    assert said == sorted(
        [f"doubt: {OVERSTATES}", f"doubt (p): {DOUBT}"], key=lambda text: text.split(": ")[1]
    )


def test_attacks_of_unlike_strength_are_told_apart() -> None:
    assert strength(row()) == "upper bound"
    assert (
        strength(row(attack="autoattack", after_each={"apgd-ce": 0.5})) == "upper bound"
    )  # a part of it
    assert strength(row(**FULL)) == "AutoAttack"
    assert strength(row(certified_acc=0.3)) == "proof"
    assert strength(row(perturbation="30°")) == strength(row(source="dense")) == ""
    assert doubts_of(row(doubts=[], **FULL)) == []


def test_the_norm_stands_beside_every_eps() -> None:
    assert threat_text({"norm": "linf", "eps": 8 / 255}) == "linf 8/255"
    assert threat_text({"norm": "l2", "eps": 0.5}) == "l2 0.5"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1 or so", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"],
)
def test_a_spreadsheet_computes_nothing_of_a_users(text: str) -> None:
    (read,) = csv.reader(
        io.StringIO(csv_text(["a"], [{"a": text}]).split("\r\n", 1)[1], newline="")
    )
    assert read == [f"'{text}"]


def test_numbers_stay_numbers() -> None:
    assert [csv_cell(value) for value in (-1.5, "-1.5", "+2", "-1e-3", 0, None, "a=b", "-inf")] == [
        -1.5,
        "-1.5",
        "+2",
        "-1e-3",
        0,
        None,
        "a=b",
        "-inf",
    ]
    assert csv_text(["a", "b"], [{"a": "x,y", "b": None}]) == 'a,b\r\n"x,y",\r\n'


def test_latex_and_markdown_are_escaped_whole() -> None:
    assert latex_cell("\\input{x} 5 % a_b #1 $x$ ~^&") == (
        "\\textbackslash{}input\\{x\\} 5 \\% a\\_b \\#1 \\$x\\$ \\textasciitilde{}\\textasciicircum{}\\&"
    )
    assert "\\input" not in latex([row(model="\\input{/etc/passwd}")], "\\input{x} 95 % {")
    assert "\n\n" not in latex([row(model="a\n\n\\par b")], "c").strip()
    assert markdown_cell("a|b\n<script> [x](y)") == "a\\|b &lt;script> [x]\\(y)"


def test_words_in_brackets_print_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {
        "model": "[red]m[/red]",
        "dataset": "[bold]d",
        "objective": ":smile:",
        "pruner": None,
        "ratio": None,
        "seed": 0,
        "attack": "pgd",
        "eps": 0.15,
        "norm": "linf",
        "clean_acc": 0.5,
        "clean_acc_interval": [0.4, 0.6],
        "images": 5,
        "of": 5,
        "seconds": 1.0,
        "checkpoint": "best",
        "doubts": ["[link=x]odd"],
        "quantizer": None,
        "made": 1,
        "found": 0,
        "this_command": 1.0,
        "files": {"dense": "st [red]x/dense", "evaluated": "st [red]x/evaluated/1"},
    }
    failed = {
        "failed": "no [green]file",
        "overrides": ["a=[1]"],
        "names": {"model": "[u]"},
        "ratio": None,
        "seed": 1,
    }
    tables.show([{"row": named, "overrides": ["a=[0]"]}, failed], tmp_path)
    told = "".join(capsys.readouterr())
    for text in ("[red]m[/red]", "[bold]d", ":smile:", "[link=x]odd", "no [green]file", "[u]"):
        assert text in told
    tables.show([{"row": named}], tmp_path)
    assert "st [red]x/dense" in capsys.readouterr().out


TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n    ^\n'
LAYERS = "RuntimeError: Error(s) in loading state_dict for Net:"
FAILURES = {
    "ratio=99 is not possible": "ratio=99 is not possible",
    "cannot load:\n  conv1 is missing\n  fc is too much": "cannot load: conv1 is missing",
    f"{TRACE}RuntimeError: CUDA error: assert\nFor debugging X=1\nCompile Y": "RuntimeError: CUDA error: assert",
    f"{TRACE}{LAYERS}\n\tsize mismatch for fc.\n\tsize mismatch for g.": f"{LAYERS} size mismatch for fc.",
    f"{TRACE}KeyError: 1\n\nDuring handling of it, another occurred:\n\n{TRACE}ValueError: b": "ValueError: b",
    f"{TRACE}RuntimeError: Caught in worker 0.\nOriginal {TRACE}OSError: the disk is gone\nhelp: none": (
        "OSError: the disk is gone"
    ),
    "": "failed without a message",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_the_line_with_the_cause_is_told(failure: str) -> None:
    assert cause(failure) == FAILURES[failure]


@pytest.fixture
def exit_code() -> Any:
    grid.EXIT["code"] = 0
    yield grid.EXIT
    grid.EXIT["code"] = 0


def config(folder: Path) -> Any:
    return SimpleNamespace(
        hydra=SimpleNamespace(
            runtime=SimpleNamespace(output_dir=str(folder)), sweep=SimpleNamespace(dir=str(folder))
        ),
        store=str(folder / "stages"),
        get=lambda name, default=None: False,
    )


@pytest.mark.parametrize("end", ["on_run_end", "on_multirun_end"])
@pytest.mark.parametrize(
    ("record", "named"),
    [
        ("{", "could not be made"),
        ('{"row": {}, "number": 0, "overrides": []}', "could not be made"),
        ("folder", "could not be"),
    ],
)
def test_what_fails_at_the_end_is_an_exit_code(
    tmp_path: Path,
    exit_code: Any,
    capsys: pytest.CaptureFixture[str],
    end: str,
    record: str,
    named: str,
) -> None:
    """Hydra catches what its callback raises, and exits with 0."""
    job = tmp_path if end == "on_run_end" else tmp_path / "0"
    job.mkdir(exist_ok=True)
    if record == "folder":
        (job / "job.json").mkdir()
    else:
        (job / "job.json").write_text(record)
    getattr(grid.Grid(), end)(config(tmp_path))
    assert exit_code["code"] == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert named in said
    assert "the results are in the store" in said


def test_a_job_without_a_record_is_not_passed_over(
    tmp_path: Path, exit_code: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.json").write_text('[["seed=0"], ["seed=1"]]')
    grid._count([{}], tmp_path)
    assert exit_code["code"] == 1
    assert "1 of 2 jobs left no job.json" in capsys.readouterr().err


def test_two_jobs_do_not_share_a_folder() -> None:
    from omegaconf import OmegaConf

    launcher = SkipFinishedLauncher(None)  # type: ignore[arg-type]
    for subdir, refused in (("x", True), ("${hydra.job.num}", False), ("a/${hydra.job.id}", False)):
        launcher.config = OmegaConf.create({"hydra": {"sweep": {"subdir": subdir}}})
        launcher._check_folders(1)
        if refused:
            with pytest.raises(
                UserError, match=r"hydra\.sweep\.subdir=x is one folder for all 2 jobs"
            ):
                launcher._check_folders(2)
        else:
            launcher._check_folders(2)


def test_the_metric_that_chooses_is_one_that_is_measured(job: Any) -> None:
    told = job("select.metric=robust")["failed"]
    assert told == "select.metric=robust is not possible: it must be one of clean_acc, robust_acc"


def test_two_changed_trees_have_two_names(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        flags = "-c user.name=a -c user.email=a@b -c commit.gpgsign=false"
        assert os.system(f"git -C {tmp_path} {flags} {' '.join(words)} >/dev/null 2>&1") == 0

    assert version_of(tmp_path) is None
    git("init")
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "x")
    clean = version_of(tmp_path)
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{12}", clean)
    names = [clean]
    for name, text in (("a.py", "2"), ("a.py", "3"), ("new.py", "1"), ("new.py", "2")):
        (tmp_path / name).write_text(text)
        names.append(str(version_of(tmp_path)))
    (tmp_path / "notes.txt").write_text("no code")
    assert str(version_of(tmp_path)) == names[-1]
    assert len(set(names)) == 5
    assert all(re.fullmatch(r"[0-9a-f]{12}\+[0-9a-f]{8}", name) for name in names[1:])


def test_a_planted_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("table.csv", f".table.csv.{os.getpid()}.part"):
        (tmp_path / name).symlink_to(precious)
    write_atomically(tmp_path / "table.csv", "new")
    assert precious.read_text() == "mine"
    assert (tmp_path / "table.csv").read_text() == "new"
    assert not (tmp_path / "table.csv").is_symlink()


def test_the_recipe_shown_is_the_one_that_was_used() -> None:
    """A data set's suggestion of 100 epochs, which the stage overrode with 2, is not in it."""
    dataset = {
        "name": "d",
        "epochs": {"training": 100},
        "learning_rate": 0.1,
        "eps": {"linf": 0.15},
        "mean": [0.1, 0.2],
        "validation": 0.1,
    }
    options = {
        "stage": "dense",
        "dataset": dataset,
        "training": {"epochs": 2, "learning_rate": 0.05},
    }
    text = yaml.safe_dump(options, sort_keys=False)
    shown_as = _used_options(StoredStage("dense", "k", Path(), options, {}, text))
    assert yaml.safe_load(shown_as) == options | {"dataset": {"name": "d", "validation": 0.1}}
    assert "100" not in shown_as


def test_a_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the job alone, and not of its grid."""
    words = ["ratio=0.9", "store='st [red]x'", "attack.eps=choice(8/255)"]
    job = SimpleNamespace(job=SimpleNamespace(name="prune"), overrides=SimpleNamespace(task=words))
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: job)
    assert shlex.split(command()) == [
        "python",
        "prune.py",
        "ratio=0.9",
        "store='st [red]x'",
        "attack.eps=8/255",
    ]
