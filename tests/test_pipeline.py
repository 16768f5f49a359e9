"""The main job end to end, on a tiny network: what is made, what is found, what is written down."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file

from advprune.masks import keep_count
from advprune.report.data.evaluation_summary import sanity_warnings


def events(store: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (store / "journal.jsonl").read_text().splitlines()]
    return [(line["event"], line["stage"]) for line in lines]


def made(store: Path) -> Counter[str]:
    return Counter(stage for event, stage in events(store) if event == "made")


def test_the_chain_is_made_once_and_counted(job: Any, tmp_path: Path) -> None:
    first = job(*TINY, "ratio=0.9")
    assert "failed" not in first, first.get("failed")
    row, store = first["row"], tmp_path / "stages"
    assert made(store) == {"dense": 1, "pruned": 1, "finetuned": 1, "evaluated": 2}
    weights = load_file(Path(row["files"]["finetuned"]) / "model.safetensors")
    masks = load_file(Path(row["files"]["finetuned"]) / "masks.safetensors")
    for name, mask in masks.items():
        assert int(mask.sum()) == keep_count(mask.numel(), 0.9)
        assert not weights[name][~mask].any()
    zeros = sum(int((weights[name] == 0).sum()) for name in masks) / sum(
        mask.numel() for mask in masks.values()
    )
    assert row["zeros"] == pytest.approx(zeros)
    assert row["sparsity"] == pytest.approx(
        1 - sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())
    )
    assert first["value"] == row["validation"]

    again = job(*TINY, "ratio=0.9")
    assert made(store) == {"dense": 1, "pruned": 1, "finetuned": 1, "evaluated": 2}
    same = set(row) - {"made", "found", "this_command"}
    assert {k: again["row"][k] for k in same} == {k: row[k] for k in same}
    assert (again["row"]["made"], again["row"]["found"]) == (0, 5)


def test_another_attack_attacks_only(job: Any, tmp_path: Path) -> None:
    job(*TINY, "pruner=magnitude", "ratio=0.5")
    before = made(tmp_path / "stages")
    job(*TINY, "pruner=magnitude", "ratio=0.5", "attack.steps=4")
    assert made(tmp_path / "stages") - before == {"evaluated": 2}


def test_records_say_what_the_table_says(job: Any) -> None:
    row = job(*TINY, "pruner=random", "ratio=0.5")["row"]
    records = pd.read_parquet(Path(row["files"]["evaluated"]) / "records.parquet")
    assert len(records) == row["images"] == 96
    assert row["of"] == 359
    assert records["image"].is_unique
    assert row["robust_acc"] == pytest.approx(records["robust_ok"].mean())
    assert row["clean_acc"] == pytest.approx((records["clean_pred"] == records["label"]).mean())
    assert not (records["robust_ok"] & ~records["clean_ok"]).any()
    assert records["distance"].max() <= 0.15 + 1e-5


def test_hydra_leaves_the_weights_alone(job: Any, tmp_path: Path) -> None:
    """Its search trains scores: where a weight is kept it is the dense one, and biases are too (no BatchNorm here)."""
    row = job(*TINY, "ratio=0.5")["row"]
    dense = load_file(Path(row["files"]["dense"]) / "model.safetensors")
    (pruned,) = (tmp_path / "stages" / "pruned").iterdir()
    after, masks = load_file(pruned / "model.safetensors"), load_file(pruned / "masks.safetensors")
    for name, weight in after.items():
        expected = dense[name] * masks[name] if name in masks else dense[name]
        assert torch.equal(weight, expected), name


def test_recovery_from_scratch_starts_at_the_initialisation(job: Any) -> None:
    out = job(
        *TINY,
        "pruner=magnitude",
        "ratio=0.5",
        "pruner.recovery=scratch",
        "training.learning_rate=1e-12",
    )
    dense = Path(out["row"]["files"]["dense"])
    start = load_file(
        dense / "early.safetensors"
    )  # of two epochs, a tenth is none: the initialisation
    end = load_file(Path(out["row"]["files"]["finetuned"]) / "model.safetensors")
    masks = load_file(Path(out["row"]["files"]["finetuned"]) / "masks.safetensors")
    for name, value in end.items():
        expected = start[name] * masks[name] if name in masks else start[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)


def test_train_makes_the_parent_that_prune_finds(job: Any, tmp_path: Path) -> None:
    dense = [o for o in TINY if not o.startswith(("search", "finetune"))]
    job(*dense, command="train")
    job(*TINY, "pruner=magnitude", "ratio=0.5")
    assert made(tmp_path / "stages")["dense"] == 1


@pytest.mark.parametrize("objective", ["natural", "pgd", "mart", "fast", "free"])
def test_every_objective_trains(job: Any, objective: str) -> None:
    tiny = [o for o in TINY if not o.startswith("objective")]
    out = job(*tiny, f"objective={objective}", command="train")
    assert "failed" not in out, out.get("failed")


def test_averaged_weights_are_what_is_kept(job: Any) -> None:
    """Decay 0 averages over the last step alone; decay that is nearly 1 stays at the first: all epochs are the same."""

    def weights(name: str, *overrides: str) -> dict[str, torch.Tensor]:
        out = job(*TINY, "pruner=magnitude", "ratio=0.5", *overrides)
        assert "failed" not in out, out.get("failed")
        return load_file(Path(out["row"]["files"]["finetuned"]) / f"{name}.safetensors")

    plain, none, all_ = (
        weights("last"),
        weights("last", "training.ema=0.0"),
        weights("last", "training.ema=0.999999999"),
    )
    first = weights("best", "training.ema=0.999999999")
    for name in plain:
        assert torch.equal(plain[name], none[name])
        assert torch.equal(all_[name], first[name])
    assert not torch.equal(plain["conv1.weight"], all_["conv1.weight"])


@pytest.mark.parametrize(
    ("logger", "file"), [("csv", "metrics.csv"), ("tensorboard", "events.*"), ("wandb", "*.wandb")]
)
def test_every_logger_writes_and_asks_nothing(
    job: Any, tmp_path: Path, logger: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    out = job(*TINY, "pruner=magnitude", "ratio=0.5", f"logger={logger}")
    assert "failed" not in out, out.get("failed")
    places = [*tmp_path.glob(f"job/**/{file}"), *tmp_path.glob(f"wandb/offline-run-*/{file}")]
    assert len(places) == 1  # one for all stages


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("ratio=99",), "for 99 % write ratio=0.99"),
        (("ratio=1",), "at least 0 and below 1.*ratio is the share of weights removed"),
        (("ratio=-0.1",), "at least 0 and below 1.*ratio is the share of weights removed"),
        (("threat.eps=8",), r"^threat\.eps=8 is not possible.*write 8/255"),
        (("+attack.stpes=3",), r"no option stpes: did you mean attack\.steps\?"),
        (("attack.steps=abc",), "must be a whole number, at least 1"),
        (("attack.images=0",), "must be at least 1, or null"),
        (("attack.images=360",), "359"),
        (("dense=nowhere.pt",), "nowhere.pt"),
        (("pruner.scope=everywhere",), "one of layer, global, erk"),
        (("pruner.rounds=3",), "schedule=one_shot"),
        (("training.learning_rate=1e9",), "lower the learning rate"),
        (("model.widths=[4]",), r"three numbers of filters, such as \[24,48,48\]"),
    ],
)
def test_mistakes_are_one_sentence(job: Any, overrides: tuple[str, ...], sentence: str) -> None:
    out = job(*TINY, *overrides)
    assert out["failed"].count("\n") == 0, out["failed"]
    assert re.search(sentence, out["failed"]), out["failed"]
    assert math.isnan(out["value"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("objective=smoothing", "objective.sigma=0"),
            "sigma=0 is not possible: it must be above 0",
        ),
        (
            ("attack=certify_smoothing", "attack.sigma=0", "threat=l2"),
            "sigma=0 is not possible: it must be above 0",
        ),
        (("attack=certify_smoothing", "attack.n=99", "threat=l2"), "n=99 .* 1 <= n0 <= n"),
        (("attack=certify_smoothing", "attack.alpha=0.5", "threat=l2"), "alpha=0.5"),
        (("attack=certify_smoothing",), "threat=l2 with a smaller"),
        (
            ("attack=certify_smoothing", "threat=l2", "threat.eps=9"),
            "larger than the pixel range.* more than 8 apart",
        ),
        (
            ("objective=ibp", "threat.eps=1.5"),
            "eps=1.5 is not possible: it must be above 0 and at most 1; eps is in",
        ),
        (("objective=ibp", "model=resnet18"), "BatchNorm2d in eval mode.* model=cnn_small"),
        (("objective=crown_ibp", "+objective.phases.finetune.beta_end=2"), "beta_end=2"),
        (("objective=mixtrain", "objective.images=0"), "images=0"),
        (("attack=certify_crown", "attack.rows=0"), "rows=0"),
        (
            (
                "attack=worst_of",
                "attack.attacks.square._target_=advprune.bounds.certificate.certify_ibp",
                "~attack.attacks.square.n_queries",
                "~attack.attacks.square.seed",
            ),
            "attack.attacks.square=certify_ibp proves and makes no examples",
        ),
        (
            ("attack=verify_exact", "model=vgg16_bn"),
            "verify_exact knows affine operations and ReLU",
        ),
    ],
)
def test_what_proves_nothing_is_refused_before_an_epoch(
    job: Any, tmp_path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    small = [word for word in TINY if not word.startswith(("objective.", "attack.steps", "model."))]
    out = job(*small, *overrides)
    assert out["failed"].count("\n") == 0, out["failed"]
    assert re.search(sentence, out["failed"]), out["failed"]
    assert not (tmp_path / "stages").exists()


@pytest.mark.parametrize(
    ("result", "lets_through", "sentence"),
    [
        ({"classes_predicted": 1}, True, "same class: its training collapsed"),
        ({"classes_predicted": 1}, False, "same class: no path of kept weights leads"),
        (
            {
                "classes_predicted": 10,
                "after_each": {"clean": 0.98, "apgd-ce": 0.83, "square": 0.03},
            },
            True,
            "80 points",
        ),
    ],
)
def test_an_outcome_that_gives_itself_away_is_doubted(
    result: dict[str, Any], lets_through: bool, sentence: str
) -> None:
    assert sentence in sanity_warnings(result, lets_through=lambda: lets_through)[0]


def test_a_network_that_pruning_cut_through_is_told_so(job: Any) -> None:
    """The first layer keeps one weight of a hundred and the next two, which read other channels."""
    row = job("pruner=random", "ratio=0.995", *TINY)["row"]
    cut = [doubt for doubt in row["doubts"] if "gives every image the same class" in doubt]
    assert ["no path of kept weights leads from the image" in doubt for doubt in cut] == [True]


def test_an_ordinary_outcome_is_not_doubted() -> None:
    after = {"clean": 0.99, "apgd-ce": 0.95, "apgd-t": 0.94, "fab-t": 0.94, "square": 0.93}
    assert (
        sanity_warnings({"classes_predicted": 10, "after_each": after}, lets_through=lambda: False)
        == []
    )
