"""Transfer attacks: examples made once, judged on any target, paired by image; and the other pruners end to end."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY, run_job
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from advprune.attacks.transfer import transfer
from advprune.config import validate
from advprune.config.job_names import GROUPS
from advprune.errors import UserError
from advprune.modules.examples import FIELDS, Examples, cells, gather
from advprune.report.data.evaluation_summary import summary

SMALL = (
    *(word for word in TINY if not word.startswith(("attack.steps", "search.epochs"))),
    "model.widths=[6,12,4]",
)
MOVED = ("attack=transfer", "attack.inner.steps=3", "attack.inner.rel_step=0.5")
WHITE = ("attack=pgd", "attack.steps=3", "attack.rel_step=0.5")
GAP = ("pruner=gap", "compression=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """One store for this file: what one test made, the next one finds."""
    return tmp_path_factory.mktemp("transfer")


def row(folder: Path, *words: str, command: str = "prune") -> dict[str, Any]:
    done = run_job(folder, command, (*SMALL, *words), folder / "stages")
    assert "failed" not in done, done["failed"]
    return done["row"]


def failure(folder: Path, *words: str, command: str = "prune") -> str:
    return run_job(folder, command, (*SMALL, *words), folder / "stages")["failed"]


def journal(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "stages" / "journal.jsonl").read_text().splitlines()
    ]


def made(folder: Path, kind: str) -> int:
    return sum((event["event"], event["stage"]) == ("made", kind) for event in journal(folder))


def last(folder: Path, kind: str) -> Path:
    """The folder of the stage of this kind that was made or found last."""
    return (
        folder
        / "stages"
        / kind
        / [event["key"] for event in journal(folder) if event["stage"] == kind][-1]
    )


def records(found: dict[str, Any]) -> pd.DataFrame:
    return pd.read_parquet(Path(found["files"]["evaluated"]) / "records.parquet")


def test_the_three_cells_by_hand() -> None:
    # label 0 throughout; columns: target clean, target on x_adv, source clean, source on x_adv
    images = [
        ("fooled both", True, 1, True, False),
        ("fooled the source", True, 0, True, False),
        ("fooled the target", True, 1, True, True),
        ("fooled none", True, 0, True, True),
        ("source wrong before", True, 1, False, False),
        ("target wrong before", False, 1, True, False),
        ("target right by luck", False, 0, True, False),
    ]
    columns = {
        "image": list(range(7)),
        "label": [0] * 7,
        "adv_pred": [i[2] for i in images],
        "clean_ok": [i[1] for i in images],
        "robust_ok": [i[1] and i[2] == 0 for i in images],
        "source_clean_ok": [i[3] for i in images],
        "source_adv_ok": [i[4] for i in images],
    }
    assert cells(columns) == {"target_acc": (3, 7), "both_correct": (1, 7), "transfer_rate": (1, 2)}
    told = summary(columns)
    assert told["transfer_rate"] == 0.5
    # Wilson with continuity correction at 1 of 2 (Newcombe 1998), in closed form; symmetric about a half
    z = 1.959963984540054
    low = (2 + z**2 - 1 - z * (z**2 - 1 / 2 + 2) ** 0.5) / (2 * (2 + z**2))
    assert told["transfer_rate_interval"] == pytest.approx([low, 1 - low])
    nobody = summary({**columns, "source_adv_ok": [True] * 7})
    assert nobody["transfer_rate"] is None
    assert nobody["transfer_rate_of"] == 0


def test_examples_are_found_by_their_place_whatever_the_order(tmp_path: Path) -> None:
    for index, places in enumerate([[4, 0], [7]]):
        whole = {name: torch.tensor(places) for name in FIELDS} | {
            "x_adv": torch.tensor(places).float()[:, None] / 10
        }
        save_file(whole, tmp_path / f"batch_{index}.safetensors")
    gather(sorted(tmp_path.glob("batch_*")), tmp_path / "examples.safetensors")
    examples = Examples(tmp_path / "examples.safetensors")
    assert torch.equal(examples.at(torch.tensor([7, 4]))["x_adv"], torch.tensor([[0.7], [0.4]]))
    for missing in (3, 8):
        with pytest.raises(UserError, match="of other images"):
            examples.at(torch.tensor([4, missing]))


def test_the_attack_looks_at_its_source_alone() -> None:
    source, x, y = nn.Linear(2, 2), torch.rand(3, 2), torch.zeros(3, dtype=torch.int64)
    seen = []
    moved = transfer(
        nn.Linear(2, 2), x, y, source=source, inner=lambda m, x, y: (seen.append(m), x + 1)[1]
    )
    assert seen == [source]
    assert torch.equal(moved, x + 1)


def test_fact_13_the_diagonal_is_white_box(folder: Path) -> None:
    white, moved = row(folder, *GAP, *WHITE), row(folder, *GAP, *MOVED, "source=self")
    ours, theirs = records(white), records(moved)
    for column in ("image", "adv_pred", "clean_pred", "distance"):
        assert np.array_equal(ours[column], theirs[column]), column
    assert moved["robust_acc"] == white["robust_acc"]
    assert moved["both_correct"] == moved["target_acc"] == (ours.adv_pred == ours.label).mean()
    assert moved["dense_robust_acc"] == white["dense_robust_acc"]
    assert moved["transfer_rate"] in (None, 1.0)


def test_examples_of_a_source_are_made_once_for_all_targets(folder: Path) -> None:
    row(folder, *GAP, *MOVED)
    before = [made(folder, kind) for kind in ("examples", "dense")]
    targets = [
        row(folder, *words, *MOVED)
        for words in (("pruner=magnitude", "ratio=0.5"), ("pruner=random", "ratio=0.3"))
    ]
    assert [made(folder, kind) for kind in ("examples", "dense")] == before
    examples = load_file(last(folder, "examples") / "examples.safetensors")
    assert examples["x_adv"].shape == (96, 1, 8, 8)
    for found in targets:
        table = records(found)
        assert found["source"] == "dense"
        right = table.adv_pred == table.label
        both = table.clean_ok & table.source_clean_ok & ~table.source_adv_ok
        assert found["target_acc"] == right.mean()
        assert found["both_correct"] == (right & table.source_adv_ok).mean()
        assert found["transfer_rate_of"] == both.sum()
        assert found["transfer_rate"] == pytest.approx((~right[both]).mean())


def test_a_matrix_of_seeds_shares_rows_and_its_diagonal_is_the_dense_network(folder: Path) -> None:
    before = made(folder, "examples")
    words = ("pruner=magnitude", "ratio=0.5", *MOVED, "attack.inner.steps=2")
    rows = [
        row(folder, *words, f"seed={seed}", f"source_seed={source}")
        for seed in (0, 1)
        for source in (0, 1)
    ]
    assert made(folder, "examples") == before + 2
    assert len({found["files"]["dense"] for found in rows}) == 2


def test_other_sources(folder: Path) -> None:
    dense = row(folder, *GAP, *MOVED)
    path = Path(dense["files"]["dense"]) / "model.safetensors"
    foreign = row(folder, *GAP, *MOVED, f"source={path}")
    assert records(foreign).drop(columns="distance").equals(records(dense).drop(columns="distance"))
    assert foreign["source"] == "model.safetensors"
    other = row(folder, *GAP, *MOVED, "model@source_model=small_cnn", "source_model.widths=[4,4,4]")
    assert other["source"] == "small_cnn widths=[4,4,4]"
    assert not records(other).source_clean_ok.equals(records(dense).source_clean_ok)
    assert not load_file(path).keys() ^ {
        "conv1.weight",
        "conv1.bias",
        "conv2.weight",
        "conv2.bias",
        "conv3.weight",
        "conv3.bias",
        "linear.weight",
        "linear.bias",
    }


def test_sources_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    weights = load_file(Path(row(folder, *GAP, *MOVED)["files"]["dense"]) / "model.safetensors")
    few = {name: w[:5].clone() if name.startswith("linear") else w for name, w in weights.items()}
    save_file(few, tmp_path / "five.safetensors")
    wide = weights | {"conv1.weight": weights["conv1.weight"].repeat(1, 3, 1, 1)}
    save_file(wide, tmp_path / "colour.safetensors")
    flat = weights | {"linear.weight": torch.zeros(10, 7)}
    save_file(flat, tmp_path / "size.safetensors")
    for name, message in [
        ("five", "the file has 5 classes, the dataset 10"),
        ("colour", "the file is for 3 channels"),
        ("size", "images of another size"),
    ]:
        assert message in failure(folder, *MOVED, *GAP, f"source={tmp_path}/{name}.safetensors")
    proof = (
        "attack.inner._target_=advprune.bounds.certificate.certify_ibp",
        "attack.inner.rel_step=1",
        *(  # Hydra deletes no null
            f"~attack.inner.{name}" for name in ("steps", "rel_step", "start", "restarts")
        ),
    )
    assert "certify_ibp proves and makes no examples" in failure(
        folder, *GAP, "attack=transfer", *proof
    )
    assert "cannot be read from nowhere" in failure(folder, *MOVED, *GAP, "source=nowhere")
    assert "write attack=transfer" in failure(folder, *WHITE, *GAP, "source=self")
    assert "write source=…" in failure(folder, *MOVED, *GAP, "+attack.source=self")
    assert "of another one" in failure(folder, *MOVED, *GAP, "source=self", "source_seed=1")


STRATEGIES = [
    ("pruner=random",),
    ("pruner=random", "pruner.select=bernoulli"),
    *(
        (f"pruner={p}", f"pruner.scope={s}")
        for p in ("magnitude", "gradient", "gap")
        for s in ("global", "layer")
    ),
    ("pruner=gap", "pruner.scope=layer", "pruner.score=abs"),
    ("pruner=activation",),
    ("pruner=gap", "pruner.schedule=linear", "pruner.rounds=2", "pruner.epochs_per_round=1"),
    *(("pruner=gap_authors", f"pruner.scope={s}") for s in ("global", "layer")),
]


@pytest.mark.parametrize("words", STRATEGIES, ids=" ".join)
def test_every_strategy_on_digits_is_counted(folder: Path, words: tuple[str, ...]) -> None:
    found = row(
        folder, *words, "pruner.biases=true", "pruner.classifier=false", "compression=1.25", *WHITE
    )
    tuned = Path(found["files"]["finetuned"])
    masks, weights = load_file(tuned / "masks.safetensors"), load_file(tuned / "model.safetensors")
    told = json.loads((tuned / "result.json").read_text())
    kept, total = told["removable_kept"], told["removable"]
    removable = [
        "conv1.weight",
        "conv1.bias",
        "conv2.weight",
        "conv2.bias",
        "conv3.weight",
        "conv3.bias",
    ]
    assert set(masks) == {*removable, "linear.weight"}
    assert masks["linear.weight"].all()
    assert (
        total
        == sum(masks[name].numel() for name in removable)
        == sum(weights[name].numel() for name in removable)
    )
    assert kept == sum(int(masks[name].sum()) for name in removable)
    parameters = sum(w.numel() for w in weights.values())
    wanted = parameters / 1.25 - (parameters - total)
    slack = (
        4 * (wanted * (1 - wanted / total)) ** 0.5
        if "pruner.select=bernoulli" in words
        else len(removable)
    )
    assert abs(kept - wanted) <= slack
    assert found["compression"] == pytest.approx(parameters / (parameters - total + kept))
    assert all(not weights[name][~mask].any() for name, mask in masks.items())
    names = [name for name in masks if name.endswith("weight")]
    zeros = sum(int((~masks[name]).sum()) for name in names) / sum(
        masks[name].numel() for name in names
    )
    assert found["sparsity"] == pytest.approx(zeros)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("compression=64", "pruner.classifier=false"),
            "compression=64 is not possible: .* give compression below",
        ),
        (("compression=0.5",), "compression=0.5 is not possible: it must be at least 1"),
        (("compression=2", "ratio=0.5"), "two answers to one question"),
        (("ratio=null",), "ratio=null leaves nothing"),
        (("pruner=hydra", "pruner.biases=true"), "pruner.biases is for a pruner that computes"),
        (("pruner.score=abs",), "pruner.score=abs is not looked at"),
        (("pruner.select=quantile", "pruner.scope=erk"), "prunes once, by scope=layer or global"),
        (("pruner.select=bernoulli",), "goes with pruner=random alone"),
        (("pruner.remove=both",), "pruner.remove=both is not possible"),
        (
            ("pruner=gradient", "pruner.criterion.mode=both"),
            "mode=both is not possible: it must be one of train, eval",
        ),
    ],
)
def test_what_cannot_be_pruned_so_is_refused_before_anything_is_made(
    tmp_path: Path, words: Any, message: str
) -> None:
    words = words if words[0].startswith("pruner=") else ("pruner=magnitude", *words)
    done = run_job(tmp_path, "prune", (*SMALL, *WHITE, *words), tmp_path / "stages")
    assert re.search(message, done["failed"]), done["failed"]
    assert not (tmp_path / "stages").exists()


def test_mobilenet_at_64_names_the_largest_possible_before_training(tmp_path: Path) -> None:
    words = ("experiment=gap_mobilenet_v2", "compression=64", "trainer=cpu")
    done = run_job(tmp_path, "prune", words, tmp_path / "stages")
    assert "compression=64 is not possible: 46922 of the network's 2236682" in done["failed"]
    assert "below 47.66" in done["failed"]


@pytest.mark.parametrize(
    "name",
    [
        f"gap_{n}{a}"
        for n in ("resnet20", "googlenet", "vgg", "mobilenet_v2")
        for a in ("", "_authors")
    ],
)
def test_presets_compose_and_bind(name: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        options: Any = OmegaConf.to_container(
            compose("prune", [f"experiment={name}"]), resolve=True, enum_to_str=True
        )
    validate.check_signatures(options, GROUPS)
    pruner, phases = options["pruner"], (options["training"], options["finetune"])
    assert (pruner["biases"], pruner["classifier"], pruner["remove"]) == (True, False, "largest")
    assert pruner["select"] == ("quantile" if name.endswith("authors") else None)
    told = ("epochs", "learning_rate", "schedule", "nesterov", "weight_decay")
    assert [(*(p[name] for name in told[:-1]), float(p[told[-1]])) for p in phases] == [
        (300, 0.1, "step_half", True, 1e-4),
        (40, 1e-3, "constant", True, 1e-4),
    ]
