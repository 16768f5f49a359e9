"""What the report's page folds away, says of a row and shows of a run, on values known beforehand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advprune.report.data.commands import without_places
from advprune.report.data.differing_options import distinguishing_options
from advprune.report.data.records import MOST_CLASSES, count_by_class
from advprune.report.data.runs import Run, StoredStage
from advprune.report.data.strongest import mark_weaker
from advprune.report.data.training_curves import read_curves
from advprune.report.page.html_tables import leaderboard_table
from advprune.report.page.pictures import pictures
from advprune.report.page.robustbench import model_infos
from advprune.report.plots.figure import dodge, with_short_numbers, with_titles

ALL = dict.fromkeys(("clean", "apgd-ce", "apgd-t", "fab-t", "square"), 0.4)
ROW: dict[str, Any] = {
    "dataset": "d",
    "model": "m",
    "objective": "trades",
    "pruner": "p",
    "ratio": 0.9,
    "quantizer": None,
    "options": "",
    "sparsity": 0.9,
    "unit": "weights",
    "network": "n",
    "attack": "pgd",
    "norm": "linf",
    "eps": 0.15,
    "perturbation": None,
    "source": None,
    "images": 100,
    "of": 100,
    "seeds": 1,
    "clean_acc": 0.9,
    "robust_acc": 0.5,
    "doubts": [],
    "costs": {},
    "runs": {0: "k"},
    "commands": {0: "python prune.py"},
}


@pytest.mark.parametrize(
    ("stronger", "weaker"),
    [
        ({"robust_acc": 0.4}, {"robust_acc": 0.5}),
        ({"robust_acc": 0.6, "after_each": ALL}, {"robust_acc": 0.5}),  # a wiser search
        ({"robust_acc": 0.6}, {"robust_acc": 0.5, "images": 10}),  # of more images
    ],
)
def test_the_strongest_attack_on_a_network_stays(stronger: Any, weaker: Any) -> None:
    rows = [ROW | weaker, ROW | stronger, ROW | {"network": "another", "robust_acc": 0.9}]
    mark_weaker(rows)
    assert [row["weaker"] for row in rows] == [True, False, False]


@pytest.mark.parametrize("other", [{"eps": 0.1}, {"norm": "l2"}, {"certified_acc": 0.1}])
def test_another_question_is_not_a_weaker_answer(other: dict[str, Any]) -> None:
    rows = [ROW | {"robust_acc": 0.1}, ROW | other]
    mark_weaker(rows)
    assert not any(row["weaker"] for row in rows)


def test_the_accuracies_stand_first_and_the_flag_beside_them() -> None:
    rows = [ROW | {"doubts": ["odd", "strange"]}, ROW | {"weaker": True, "network": "x"}]
    table = leaderboard_table(rows)
    heads = [heading["text"] for heading in table["headings"]]
    assert heads[: table["kept"] + 2] == [
        *("model", "pruner", "ratio", "clean %", "robust %"),
        *("doubts", "threat"),
    ]
    flags = [row["cells"][table["kept"]]["flag"] for row in table["rows"]]
    assert flags[0] == {"count": 2, "words": "odd; strange", "run": "k"}
    assert flags[1]["words"].startswith("no doubts")
    assert [row["weaker"] for row in table["rows"]] == [False, True]
    aside = {heading["text"] for heading in table["headings"] if heading["aside"]}
    assert "doubts in words" in aside
    assert "threat" not in aside


def test_a_command_is_shown_without_the_folders_of_one_machine() -> None:
    said = "python /home/me/prune.py pruner=hydra store=/scratch/me hydra.sweep.dir=/x/y 'a=[1, 2]'"
    assert without_places(said) == "python prune.py pruner=hydra 'a=[1, 2]'"
    assert without_places('not "a command') == 'not "a command'


def test_a_perturbation_is_called_as_in_papers() -> None:
    def line(*perturbs: dict[str, Any] | None) -> tuple[StoredStage, ...]:
        options = [{} if p is None else {"recipe": {"perturb": p}} for p in perturbs]
        kinds = ("dense", "finetuned")
        return tuple(
            StoredStage(kind, "", Path(), own, {}, "")
            for kind, own in zip(kinds, options, strict=True)
        )

    awp: dict[str, Any] = {"what": "weights", "gamma": 0.005}
    names = distinguishing_options([line(None, None), line(None, awp), line(awp, awp)])
    assert names == ["", "+ AWP (finetuned)", "+ AWP (dense) + AWP (finetuned)"]
    strong = awp | {"gamma": 0.01}
    names = distinguishing_options([line(None, None), line(None, awp), line(None, strong)])
    assert names[2] == "finetuned.recipe.perturb.gamma=0.01 + AWP (finetuned)"


def test_images_are_counted_by_class() -> None:
    labels, right = np.array([0, 0, 2, 2, 2]), np.array([True, False, True, True, False])
    counts = count_by_class(labels, right, np.ones(5, dtype=bool))
    assert counts == {"class": [0, 2], "images": [2, 3], "right": [1, 2], "clean": [2, 3]}
    many = np.arange(50)
    worst = count_by_class(many, many >= MOST_CLASSES, None)
    assert worst["class"] == list(range(MOST_CLASSES))
    assert "clean" not in worst


def test_curves_are_thinned_to_their_last_epoch_and_refuse_what_training_does_not_write(
    tmp_path: Path,
) -> None:
    path = tmp_path / "curves.json"
    rows = [{"epoch": at, "loss": 1 / at, "val_clean_acc": 0.12345} for at in range(1, 101)]
    path.write_text(json.dumps({"work": [{"epoch": 0.5, "batch_loss": 1.0}, *rows]}))
    curves = read_curves(path, most=10)
    assert curves["epoch"] == list(range(10, 101, 10))
    assert curves["val_clean_acc"] == [0.123] * 10
    assert set(curves) == {"epoch", "loss", "val_clean_acc"}
    for text in ("[1]", '{"a": 3}', '{"work": [{"loss": "x", "epoch": []}]}', "{"):
        path.write_text(text)
        assert read_curves(path) == {}
    assert read_curves(tmp_path / "none") == {}


def test_pictures_take_the_best_places_until_there_is_no_room(tmp_path: Path) -> None:
    runs = {}
    for key in "abc":
        (tmp_path / key).mkdir()
        (tmp_path / key / "examples.png").write_bytes(b"x" * 10)
        stage = StoredStage("evaluated", key, tmp_path / key, {}, {}, "")
        runs[key] = Run((stage, stage))
    rows = [ROW | {"runs": {0: key}, "place": place} for key, place in (("a", 3), ("b", 1))]
    rows.append(ROW | {"runs": {0: "c"}, "place": 1, "weaker": True})
    assert set(pictures(rows, runs, room=25)) == {"b", "a"}
    assert pictures(rows, runs, room=5) == {}


def test_a_point_says_its_value_under_the_pointer() -> None:
    marks = '<g><use href="#m" x="1"/><use href="#m" x="2"/></g>'
    line = f'<g id="value of a &lt; 1 | b"><path d="M"/><defs><path id="m"/></defs>{marks}</g>'
    bar = '<g id="value of c"><path d="M"/></g>'
    titled = with_titles(f"<svg>{line}{bar}<g><path/></g></svg>")
    assert "<title>a &lt; 1</title></use>" in titled
    assert '<use href="#m" x="2"><title>b</title></use>' in titled
    assert '<path d="M"><title>c</title></path>' in titled
    assert titled.count("<title>") == 3
    assert "value of" not in titled


def test_places_are_shortened_and_labels_are_not() -> None:
    drawn = '<path d="M 0.795609 -12.3 L 1 2"/><text x="3.14159" style="x: 0.0001">0.98765</text>'
    assert with_short_numbers(drawn) == (
        '<path d="M 0.80 -12.3 L 1 2"/><text x="3.14" style="x: 0.0001">0.98765</text>'
    )


def test_intervals_of_several_lines_stand_beside_each_other() -> None:
    places = [dodge(number, 5) for number in range(5)]
    assert places[2] == 0
    assert places == sorted(places) == [-place for place in reversed(places)]
    assert len(set(places)) == 5


#: What every file of RobustBench's model_info has, and of which type; authors fill in the None.
ROBUSTBENCH = {
    **dict.fromkeys(("link", "name", "authors", "venue", "reported"), (str, type(None))),
    "additional_data": (bool, type(None)),
    "number_forward_passes": (int,),
    **dict.fromkeys(("dataset", "architecture", "eps", "clean_acc", "autoattack_acc"), (str,)),
}


def test_a_record_is_one_that_robustbench_takes() -> None:
    def stage(kind: str, options: dict[str, Any], result: dict[str, Any]) -> StoredStage:
        return StoredStage(kind, "k", Path(), options | {"seed": 3}, result, "")

    after = {"clean_acc": 0.88984, "robust_acc": 0.5714, "images": 100}
    dense = stage("dense", {"dataset": {"extra": ["ti500k.npz"]}}, {})
    run = Run((dense, stage("evaluated", {}, after)))
    best = ROW | {"after_each": ALL, "runs": {3: "k"}, "pruner": "hydra", "eps": 8 / 255}
    left_out = [{"after_each": {}}, {"of": 101}, {"weaker": True}, {"norm": None}]
    ((name, info),) = model_infos([best, *(best | other for other in left_out)], {"k": run}).items()
    assert name == "d-linf-m-hydra-0-9-seed-3.json"
    assert ROBUSTBENCH.keys() <= info.keys()
    assert info.keys() - ROBUSTBENCH.keys() == {
        "footnote",
        "unreliable",
    }  # which some of theirs have
    for field, types in ROBUSTBENCH.items():
        assert isinstance(info[field], types), field
    assert (info["clean_acc"], info["autoattack_acc"]) == ("88.98", "57.14")
    assert (info["eps"], info["architecture"]) == ("8/255", "m, hydra 0.9")
    assert info["additional_data"] is True
    assert info["unreliable"] is False
    assert json.loads(json.dumps(info)) == info
