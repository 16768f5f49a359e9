"""hydra/sweeper=optuna: what is searched, that a killed search goes on as one left alone, and that bad trials stop."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser

from advprune.errors import UserError
from advprune.tracking.optuna_trial import VARIABLE

optuna = pytest.importorskip("optuna", reason="needs the extra optuna")

from advprune.launch import search, search_space  # noqa: E402

OPTIONS: dict[str, Any] = {
    "trials": 6,
    "at_once": 1,
    "storage": None,
    "seed": 3,
    "sampler": {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2},
    "pruner": {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1},
}


def searched(*words: str) -> dict[str, Any]:
    return search_space.space(OverridesParser.create().parse_overrides(list(words)))


def test_what_is_searched() -> None:
    found = searched(
        "seed=0",
        "pruner=hydra,magnitude",
        "ratio=interval(0.1,0.9)",
        "finetune.epochs=range(5,30,5)",
        "training.learning_rate=tag(log,interval(0.01,1))",
        "search.epochs=int(interval(1,9))",
    )
    assert found == {
        "pruner": optuna.distributions.CategoricalDistribution(["hydra", "magnitude"]),
        "ratio": optuna.distributions.FloatDistribution(0.1, 0.9),
        "training.learning_rate": optuna.distributions.FloatDistribution(0.01, 1.0, log=True),
        "finetune.epochs": optuna.distributions.IntDistribution(5, 25, step=5),
        "search.epochs": optuna.distributions.IntDistribution(1, 9),
    }


def test_nothing_to_search_is_a_sentence() -> None:
    with pytest.raises(UserError, match="nothing to search: give an option several values"):
        searched("ratio=0.5")


def run(folder: Path, *, until: int = 99, fails: int | None = None, **options: Any) -> list[int]:
    """Run a search whose jobs give 1 - (ratio - 0.3)², stopping before its trial ``until``; the trials that ran."""
    study = search.Search(
        folder, ["seed=0"], searched("ratio=interval(0.0,1.0)"), OPTIONS | options
    )
    ran = []
    for batch in study.batches():
        if batch[-1].number >= until:
            return ran
        for trial in batch:
            ran.append(trial.number)
            failed = trial.number == fails
            value = float("nan") if failed else 1 - (trial.params["ratio"] - 0.3) ** 2
            (folder / str(trial.number)).mkdir(exist_ok=True)
            (folder / str(trial.number) / "job.json").write_text(
                json.dumps({"failed": "x"} if failed else {"row": {}})
            )
            study.tell(trial, value)
        if fails is not None and ran[-1] == fails:
            return ran
    study.conclude()
    return ran


def tried(folder: Path) -> list[Any]:
    study = optuna.load_study(
        study_name=folder.name, storage=search.storage_of(str(folder / "journal.log"))
    )
    return [(trial.params, trial.value, trial.state) for trial in study.trials]


def test_a_killed_search_goes_on_as_one_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    assert run(alone) == [0, 1, 2, 3, 4, 5]
    assert run(killed, until=3) == [0, 1, 2]
    assert run(killed) == [3, 4, 5]  # the third was asked for, and never ended
    assert tried(killed) == tried(alone)
    best = json.loads((alone / "best.json").read_text())
    assert best["value"] == max(value for _, value, _ in tried(alone))
    assert best["words"][0] == "seed=0"
    assert run(alone) == []  # given again, it has nothing to do
    assert "best of 6 finished trials" in capsys.readouterr().out


def test_a_failed_trial_is_tried_again(tmp_path: Path) -> None:
    assert run(tmp_path / "study", fails=2) == [0, 1, 2]
    assert run(tmp_path / "study") == [2, 3, 4, 5]
    assert len(tried(tmp_path / "study")) == 6


def test_trials_at_once_are_numbered_in_a_row(tmp_path: Path) -> None:
    study = search.Search(
        tmp_path / "study", [], searched("ratio=interval(0.0,1.0)"), OPTIONS | {"at_once": 4}
    )
    sizes = [[trial.number for trial in batch] for batch in _three(study)]
    assert sizes == [[0, 1, 2, 3], [4, 5]]


def _three(study: Any) -> Any:
    for batch in study.batches():
        yield batch
        for trial in batch:
            study.study.tell(trial.number, 0.5)


def test_two_commands_are_not_at_one_search(tmp_path: Path) -> None:
    with (
        search.hold_study(tmp_path / "study"),
        pytest.raises(UserError, match="another command is at this search"),
        search.hold_study(tmp_path / "study"),
    ):
        pass


def test_a_bad_trial_is_given_up(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two good trials reported 0.99 for each epoch: the third, a real training that has no chance, stops after one."""
    folder = tmp_path / "study"
    study = search.Search(folder, [], searched("ratio=interval(0.1,0.9)"), OPTIONS)
    for _ in range(2):
        good = study.study.ask(study.searched)
        good.report(0.99, 1)
        study.study.tell(good, 0.99)
    (third,) = next(iter(study.batches()))
    told = next(word for word in study.words(third) if VARIABLE in word).partition("=")[2]
    monkeypatch.setenv(VARIABLE, told.strip("'"))
    out = job(*TINY, "pruner=random", f"ratio={third.params['ratio']}")
    assert out["given_up"].startswith("given up after epoch 1, with 0.")
    assert out["value"] != out["value"]
    assert not list(tmp_path.glob("stages/finetuned/*/complete"))
    (folder / str(third.number)).mkdir()
    (folder / str(third.number) / "job.json").write_text(json.dumps(out))
    study.tell(third, float("nan"))
    assert tried(folder)[2][2] == optuna.trial.TrialState.PRUNED
