"""The report of a store whose numbers are known: what is pooled, compared, left out, written."""

import csv
import json
import re
import shutil
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from scipy.stats import binomtest, t

from advprune.report.__main__ import main
from advprune.report.build import build
from advprune.report.data.leaderboard_rows import entries, method
from advprune.report.data.names import names_from_tables, run_labels
from advprune.report.data.published import published, published_for
from advprune.report.data.records import read_outcomes
from advprune.report.data.runs import Run, StoredStage
from advprune.report.data.significance import comparisons, mcnemar, on_every_seed
from advprune.report.data.store_reader import Reader
from advprune.report.page.leaderboard import shown_fields
from advprune.report.page.ranking import rank
from advprune.report.plots import all_plots
from advprune.store.checksums import write_manifest
from advprune.store.keys import RECIPES
from benchmarks.report import Synthetic, options_of

IMAGES = 200
SHAPES = {"conv1.weight": (4, 1, 3, 3), "linear.weight": (10, 16)}
#: How many of the images each is right on, by seed: always the first ones.
RIGHT = {"hydra": {0: 150, 1: 160}, "magnitude": {0: 120, 1: 120}}
DENSE = 170


def write(path: Path, text: str) -> None:
    """Write it, and a mark that goes with it, as whoever plants a file would."""
    path.write_text(text)
    write_manifest(path.parent)


def change(folder: Path, *, seal_again: bool = False, **facts: Any) -> None:
    path = folder / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    if seal_again:
        write_manifest(folder)


def first(count: int) -> list[bool]:
    return [i < count for i in range(IMAGES)]


@pytest.fixture(scope="module")
def options() -> dict[str, dict[str, Any]]:
    return {name: options_of(f"pruner={name}", "ratio=0.9") for name in RIGHT}


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any, options: dict[str, Any]) -> Path:
    """Two pruners, two seeds, one ratio more; read only: copy it to damage it."""
    folder = tmp_path_factory.mktemp("report")
    store = Synthetic(folder / "stages", SHAPES)
    for name, seeds in RIGHT.items():
        for seed, count in seeds.items():
            store.job(
                options[name] | {"seed": seed}, robust=first(count), dense=first(DENSE), draw=seed
            )
    store.job(options["hydra"] | {"ratio": 0.99}, robust=first(50), dense=first(DENSE))
    return folder


@pytest.fixture
def damaged(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "stages", tmp_path / "stages")
    return tmp_path / "stages"


def pooled(store: Path) -> list[dict[str, Any]]:
    return entries(Reader(store).runs(), {}, {})


def one(rows: list[dict[str, Any]], pruner: str | None, ratio: float | None) -> dict[str, Any]:
    (row,) = (row for row in rows if (row["pruner"], row["ratio"]) == (pruner, ratio))
    return row


def test_seeds_are_pooled_by_their_options_and_the_parent_stands_beside(made: Path) -> None:
    rows = pooled(made / "stages")
    assert len(rows) == 4  # dense, hydra at two ratios, magnitude
    row = one(rows, "hydra", 0.9)  # no table says "hydra"
    seeds = t.ppf(0.975, 1) * 0.025  # of two values, the standard error is half their distance
    ends = [binomtest(count, IMAGES).proportion_ci(0.95, "wilsoncc") for count in (150, 160)]
    below, above = (
        0.775 - (ends[0].low + ends[1].low) / 2,
        (ends[0].high + ends[1].high) / 2 - 0.775,
    )
    assert row["robust_acc"] == pytest.approx(0.775)
    assert row["robust_acc_interval"] == pytest.approx(
        [0.775 - hypot(seeds, below), 0.775 + hypot(seeds, above)]
    )
    assert row["dense_robust_acc"] == pytest.approx(DENSE / IMAGES)
    assert sorted(row["runs"]) == [0, 1]
    alone = one(rows, "hydra", 0.99)
    assert (alone["seeds"], alone["robust_acc"]) == (1, 0.25)
    assert alone["robust_acc_interval"] == pytest.approx(
        [0.1929, 0.3170], abs=1e-4
    )  # Wilson, corrected, of 50 of 200


def test_two_methods_are_compared_on_the_same_images(made: Path) -> None:
    runs = Reader(made / "stages").runs()
    (pair,) = comparisons(
        [(run, read_outcomes(run)) for run in runs]
    )  # hydra at 0.99 has nobody to compare with
    assert (pair["axis"], pair["seeds"], pair["images"]) == ("pruner", 2, IMAGES)
    assert abs(pair["difference"]) == pytest.approx(0.175)
    assert sorted([pair["only_of"], pair["only_against"]]) == [0, 70]
    assert pair["p"] == pytest.approx(
        2 * 0.5**30
    )  # seed 0: 30 images to none; seed 1, 40 to none, is less
    assert pair["q"] == pytest.approx(pair["p"])
    assert pair["significant"]
    rows = entries(runs, {}, {})
    rank(rows, [pair])
    assert one(rows, "hydra", 0.9)["versus"] == "best"
    assert one(rows, "magnitude", 0.9)["versus"] == "-17.5, significant"
    assert "versus" not in one(rows, "hydra", 0.99)


def test_a_difference_must_show_on_every_seed() -> None:
    assert on_every_seed([(10, 0)]) == pytest.approx(2 * 0.5**10)
    assert on_every_seed([(10, 0), (3, 0)]) == pytest.approx(0.25)
    assert on_every_seed([(10, 0), (0, 10)]) == 1
    assert on_every_seed([(0, 0)]) == on_every_seed([(1, 0)]) == 1
    assert on_every_seed([(8, 2)]) == pytest.approx(2 * (1 + 10 + 45) / 2**10)


def test_many_comparisons_are_corrected_together(options: dict[str, Any], tmp_path: Path) -> None:
    """Three pruners whose p are 2^-9, 2^-4 and 1: times 3 (1 + 1/2 + 1/3) over the rank."""
    store = Synthetic(tmp_path / "stages", SHAPES)
    rights = {"hydra": 110, "magnitude": 100, "random": 100}
    for name, count in rights.items():
        chosen = options.get(name) or options_of("pruner=random", "ratio=0.9")
        right = first(count)
        if name == "random":  # five of its own, so that 100 to 105
            right[195:] = [True] * 5
        store.job(chosen, robust=right, dense=first(DENSE))
    found = comparisons([(run, read_outcomes(run)) for run in Reader(tmp_path / "stages").runs()])
    assert [row["p"] for row in sorted(found, key=lambda row: row["p"])] == pytest.approx(
        [2 * 0.5**10, 2 * 0.5**5, 2 * sum(_choose(15, k) for k in range(6)) / 2**15]
    )
    q = [row["q"] for row in sorted(found, key=lambda row: row["p"])]
    factor = 3 * (1 + 1 / 2 + 1 / 3)
    assert q == pytest.approx(
        [factor * 2 * 0.5**10, factor * 2 * 0.5**5 / 2, 0.301758 * factor / 3], rel=1e-4
    )
    assert [row["significant"] for row in sorted(found, key=lambda row: row["p"])] == [
        True,
        False,
        False,
    ]


def _choose(n: int, k: int) -> int:
    from math import comb

    return comb(n, k)


def test_what_differs_in_more_than_one_thing_is_not_compared(
    options: dict[str, Any], tmp_path: Path
) -> None:
    store = Synthetic(tmp_path / "stages", SHAPES)
    longer = options["magnitude"] | {"finetune": options["magnitude"]["finetune"] | {"epochs": 99}}
    trades = options_of("pruner=magnitude", "ratio=0.9", "objective=pgd")
    for chosen in (options["hydra"], longer, trades):
        store.job(chosen, robust=first(100), dense=first(DENSE))
    found = comparisons([(run, read_outcomes(run)) for run in Reader(tmp_path / "stages").runs()])
    assert [row["axis"] for row in found] == ["objective"]  # the two dense parents


def test_a_search_is_part_of_the_budget(options: dict[str, Any], tmp_path: Path) -> None:
    """HYDRA with its search, and magnitude fine-tuned for as many epochs in all: compared; one epoch less: not."""
    searched = options["hydra"]["search"]["epochs"] + options["hydra"]["finetune"]["epochs"]
    for less, compared in ((0, 1), (1, 0)):
        store = Synthetic(tmp_path / str(less) / "stages", SHAPES)
        recipe = options["magnitude"]["finetune"] | {"epochs": searched - less}
        store.job(options["hydra"], robust=first(110), dense=first(DENSE))
        store.job(
            options["magnitude"] | {"finetune": recipe}, robust=first(100), dense=first(DENSE)
        )
        runs = Reader(tmp_path / str(less) / "stages").runs()
        assert len(comparisons([(run, read_outcomes(run)) for run in runs])) == compared


def test_runs_called_the_same_are_told_apart(options: dict[str, Any], tmp_path: Path) -> None:
    store = Synthetic(tmp_path / "stages", SHAPES)
    for epochs in (5, 7):
        recipe = options["magnitude"]["finetune"] | {"epochs": epochs}
        store.job(
            options["magnitude"] | {"finetune": recipe}, robust=first(100), dense=first(DENSE)
        )
    names = {method(row) for row in pooled(tmp_path / "stages") if row["pruner"]}
    assert names == {"magnitude finetuned.recipe.epochs=5", "magnitude finetuned.recipe.epochs=7"}


def test_a_seed_inside_an_option_is_the_seed() -> None:
    def stage(seed: int, inner: int) -> StoredStage:
        options = {"seed": seed, "pruner": {"criterion": {"seed": inner}}}
        return StoredStage("pruned", "k", Path(), options, {}, "")

    assert stage(0, 0).identity == stage(1, 1).identity
    assert stage(0, 7).identity == stage(1, 7).identity != stage(0, 0).identity


def test_words_are_those_of_the_command(made: Path) -> None:
    runs = Reader(made / "stages").runs()
    run = next(
        run
        for run in runs
        if run.stage("pruned") and run.stage("pruned").options["pruner"].get("process")
    )  # type: ignore[union-attr]
    row = {
        "pruner": "hydra",
        "model": "small_cnn",
        "files": {"evaluated": str(run.evaluated.folder)},
    }
    names = names_from_tables(runs, [[row, row | {"pruner": "hydra pruner.process.init=scaled"}]])
    told = {method(row) for row in entries(runs, names, {})}
    assert told == {
        "hydra pruner.process.init=scaled",
        "magnitude",
        "dense",
    }  # one folder, two tables: the last


def test_an_objective_of_recovery_does_not_name_the_parent_that_it_shares(tmp_path: Path) -> None:
    """A dense network by TRADES under a network that distils from it, and under one that does not."""
    trades, distils = ({"_target_": f"somewhere.{name}"} for name in ("trades", "pwoa"))

    def stage(kind: str, key: str, **options: Any) -> StoredStage:
        return StoredStage(kind, key, tmp_path / key, options, {"parent": None}, "")

    def run(key: str, recovery: dict[str, str]) -> Run:
        return Run((
            stage("dense", "dense", training={}, objective=trades),
            stage("pruned", f"p{key}", pruner={}),
            stage("finetuned", f"f{key}", recipe={}, objective=recovery),
            stage("evaluated", key, dataset={}, attack={}),
        ))  # fmt: skip

    runs = [run("a", trades), run("b", distils)]
    rows = [
        {"objective": name, "files": {"evaluated": key}}
        for key, name in (("a", "trades"), ("b", "pwoa"))
    ]
    dense = Run((runs[0].line[0], stage("evaluated", "c", dataset={}, attack={})))
    names = names_from_tables(runs, [rows])
    assert [run_labels(r, names)["objective"] for r in (*runs, dense)] == [
        "trades",
        "pwoa",
        "trades",
    ]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            lambda p: write(p / "records.parquet", "PAR1 and no more"),
            "records.parquet cannot be read",
        ),
        (
            lambda p: (p / "records.parquet").write_bytes(b"PAR1 and no more"),
            "records.parquet is damaged",
        ),
        (lambda p: (p / "records.parquet").unlink(), "records.parquet is gone"),
        (
            lambda p: write(p / "result.json", "{}"),
            "result.json cannot be read (it names no parent stage)",
        ),
        (
            lambda p: write(p / "result.json", "[" * 100_000),
            "result.json cannot be read (it is nested too deeply)",
        ),
        (lambda p: change(p, clean_acc=0.99), "result.json is damaged"),
        (
            lambda p: change(p, seal_again=True, clean_acc=0.99),
            "clean_ok 0.325000, its result.json 200 images and clean_ok 0.99",
        ),
        (
            lambda p: change(p, seal_again=True, clean_acc=99),
            "result.json cannot be read (its clean_acc is 99",
        ),
        (
            lambda p: change(p, seal_again=True, images="many"),
            "result.json cannot be read (its images is 'many'",
        ),
        (lambda p: change(p, seal_again=True, parent=None), "names no network that it evaluated"),
        (
            lambda p: change(p, seal_again=True, robust_acc=float("nan")),
            "result.json cannot be read (NaN is no number",
        ),
        (lambda p: (p / "config.yaml").write_text(""), "config.yaml is damaged"),
        (lambda p: write(p / "config.yaml", ""), "config.yaml cannot be read (it is empty)"),
        (lambda p: write(p / "config.yaml", "a: [1"), "config.yaml cannot be read"),
        (
            lambda p: write(p / "config.yaml", "[" * 2_000 + "]" * 2_000),
            "config.yaml cannot be read",
        ),
        (
            lambda p: write(p / "config.yaml", "a: &a [1, 1]\nb: [*a, *a]"),
            "config.yaml cannot be read (it has aliases",
        ),
        (
            lambda p: write(p / "config.yaml", "dataset: 3"),
            "config.yaml cannot be read (its dataset is",
        ),
        (lambda p: (p / "complete").write_text("["), "complete is damaged"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_untouched(
    made: Path,
    damaged: Path,
    tmp_path: Path,
    damage: Any,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_plots, "draw", lambda given: ([], []))
    run = next(
        run for run in Reader(made / "stages").runs() if run.final.result.get("ratio") == 0.99
    )
    damage(damaged / "evaluated" / run.evaluated.key)
    report = build(damaged, tmp_path / "report", [])
    (problem,) = report.problems
    assert named in problem
    assert run.evaluated.key in problem
    assert "delete" in problem
    assert "left out" in problem
    told = json.loads((tmp_path / "report" / "leaderboard.json").read_text())
    assert sorted((row["pruner"] or "", row["robust_acc"]) for row in told["rows"]) == [
        ("", pytest.approx(0.85)),
        ("hydra", pytest.approx(0.775)),
        ("magnitude", pytest.approx(0.6)),
    ]
    assert escape(named) in (tmp_path / "report" / "index.html").read_text()


def test_records_that_contradict_their_result_are_left_out(made: Path, damaged: Path) -> None:
    run = next(run for run in Reader(damaged).runs() if run.final.result.get("ratio") == 0.99)
    path = run.evaluated.folder / "result.json"
    change(path.parent, seal_again=True, robust_acc=0.26)
    with pytest.raises(
        ValueError, match=r"has 200 images and robust_ok 0\.250000, its result\.json .* 0\.260000"
    ):
        read_outcomes(
            next(run for run in Reader(damaged).runs() if run.final.result.get("ratio") == 0.99)
        )


def test_a_run_without_its_parent_is_named(damaged: Path) -> None:
    run = next(run for run in Reader(damaged).runs() if run.final.result.get("ratio") == 0.99)
    shutil.rmtree(run.final.folder)
    reader = Reader(damaged)
    assert run.evaluated.key not in {run.evaluated.key for run in reader.runs()}
    (problem,) = reader.problems
    assert f"made from stage {run.final.key}, which is not in the store" in problem


def test_what_an_older_recipe_made_is_not_mixed_in(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "pruned", RECIPES["pruned"] + 1)
    report = build(made / "stages", tmp_path / "report", [])
    assert report.runs == 2  # the dense parent on two seeds
    (problem,) = report.problems
    assert "5 evaluations are not reported" in problem
    assert len(re.findall(r"\b[0-9a-f]{16}\b", problem)) == 5  # each is named


def test_half_a_stage_is_not_there(damaged: Path) -> None:
    run = next(run for run in Reader(damaged).runs() if run.final.result.get("ratio") == 0.99)
    (run.evaluated.folder / "complete").unlink()
    reader = Reader(damaged)
    assert run.evaluated.key not in {run.evaluated.key for run in reader.runs()}
    (problem,) = reader.problems
    assert "1 evaluations are not finished" in problem
    assert run.evaluated.key in problem


def test_a_stage_made_from_itself_is_named(damaged: Path) -> None:
    """Its own parent, and two that are each other's."""
    run = next(run for run in Reader(damaged).runs() if run.final.result.get("ratio") == 0.99)
    pruned, tuned = run.line[1].folder, run.line[2].folder
    for parent in (pruned.name, tuned.name):
        change(pruned, seal_again=True, parent=parent)
        reader = Reader(damaged)
        assert len(reader.runs()) == 6
        (problem,) = reader.problems
        assert "from itself" in problem


def test_what_was_made_from_a_damaged_stage_is_named_with_it(damaged: Path) -> None:
    reader = Reader(damaged)
    runs = reader.runs()
    dense = next(run.dense for run in runs if run.seed == 1)
    lost = {run.evaluated.key for run in runs if run.dense.key == dense.key}
    change(dense.folder, kept="last")
    reader = Reader(damaged)
    assert {run.evaluated.key for run in reader.runs()} == {
        run.evaluated.key for run in runs
    } - lost
    assert all(any(key in problem for problem in reader.problems) for key in lost)


def test_the_files(made: Path, tmp_path: Path) -> None:
    report = build(made / "stages", tmp_path / "report", [])
    assert (report.runs, report.compared, report.problems) == (7, 1, [])
    markdown = (report.folder / "leaderboard.md").read_text()
    assert "All: data set digits" in markdown
    assert "| 77.5 [45.1, 100.0] |" in markdown
    latex = (report.folder / "leaderboard.tex").read_text()
    assert all(
        rule in latex
        for rule in ("\\toprule", "\\midrule", "\\bottomrule", "small\\_cnn", "robust \\%")
    )
    assert "small_cnn" not in latex
    with (report.folder / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(
        next(row for row in rows if row["method"] == "magnitude")["robust_acc"]
    ) == pytest.approx(0.6)
    told = json.loads((report.folder / "leaderboard.json").read_text())
    stages = {
        told["stages"][key]["stage"]
        for row in told["rows"]
        for run in row["runs"]
        for key in run["stages"]
    }
    assert stages == {"dense", "pruned", "finetuned", "evaluated"}
    assert all(stage["provenance"]["packages"]["torch"] for stage in told["stages"].values())
    assert [pair["significant"] for pair in told["comparisons"]] == [True]


def test_only_its_own_old_plots_are_removed(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "report"
    (out / "plots").mkdir(parents=True)
    (out / "plots" / "mine.svg").write_text("mine")
    build(made / "stages", out, [])
    old = json.loads((out / "leaderboard.json").read_text())
    assert old["plots"]
    (out / "leaderboard.json").write_text(
        json.dumps(old | {"plots": [*old["plots"], "gone.svg", "../index.html"]})
    )
    (out / "plots" / "gone.svg").write_text("old")
    build(made / "stages", out, [])
    assert not (out / "plots" / "gone.svg").exists()
    assert (out / "plots" / "mine.svg").exists()
    assert (out / "index.html").exists()


def test_errors_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["--store", str(tmp_path)]) == 1
    assert "there is no finished evaluation in" in capsys.readouterr().err


def test_published_rows_are_those_of_the_papers() -> None:
    rows = published()
    assert len(rows) == 252

    def cell(
        protocol: str,
        dataset: str,
        model: str,
        pruner: str | None,
        ratio: float | None,
        unit: str | None,
    ) -> Any:
        (row,) = (
            row
            for row in rows
            if (
                row["protocol_id"],
                row["dataset"],
                row["model"],
                row["pruner"],
                row["ratio"],
                row["unit"],
            )
            == (protocol, dataset, model, pruner, ratio, unit)
        )
        return row["clean_acc"], row["robust_acc"], row["certified_acc"]

    weights, filters = "weights", "filters"
    assert cell("apb", "cifar10", "resnet18", "FlyingBird", 0.9, weights) == pytest.approx(
        (0.8069, 0.4649, None)
    )
    assert cell("apb", "svhn", "vgg16_bn", "TwinRep", 0.9, filters) == pytest.approx(
        (0.8961, 0.4483, None)
    )
    assert cell("hydra_era", "svhn", "wrn_28_4", "HYDRA", 0.9, weights) == (
        None,
        pytest.approx(0.628),
        None,
    )
    assert cell("hydra_vra_s", "cifar10", "vgg16_bn", None, None, None) == (
        None,
        None,
        pytest.approx(0.611),
    )
    assert cell("hydra_wrn_robustbench", "cifar10", "wrn_28_10", "HYDRA", 0.9, weights)[
        1
    ] == pytest.approx(0.5714)
    for row in rows:
        assert row["note"]
        assert row["eps"] is None or 0 < row["eps"] < 0.2
        assert all(
            row[name] is None or 0.1 < row[name] < 1
            for name in ("clean_acc", "robust_acc", "certified_acc")
        )


def test_published_rows_stand_beside_ours_and_are_marked() -> None:
    assert published_for([{"dataset": "digits", "model": "small_cnn"}]) == []
    near = published_for([{"dataset": "cifar10 train_images=5", "model": "vgg16_bn"}])
    assert {(row["dataset"], row["model"]) for row in near} == {("cifar10", "vgg16_bn")}
    fields, same = shown_fields(near)
    assert "protocol" in {field.name for field in fields}
    assert same.startswith("data set cifar10")


def test_a_line_of_stages(made: Path) -> None:
    run = next(run for run in Reader(made / "stages").runs() if run.stage("pruned"))
    assert [stage.kind for stage in run.line] == ["dense", "pruned", "finetuned", "evaluated"]
    assert isinstance(run, Run)
    assert np.unpackbits(read_outcomes(run).right)[:IMAGES].sum() in (50, 120, 150, 160)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (3, 9), (40, 40), (151, 90), (3000, 2700)])
def test_mcnemar_is_scipys_binomial_test(a: int, b: int) -> None:
    assert mcnemar(a, b) == pytest.approx(binomtest(a, a + b).pvalue if a + b else 1, rel=1e-9)
