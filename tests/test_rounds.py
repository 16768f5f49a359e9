"""Pruning in rounds: what is made is what is written down, masks only shrink, and what cannot be made is refused."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from scores import heard

from advprune.masks import keep_count
from advprune.stages import finetuned

#: Without the search and an attack in training: what is looked at here is who decides, and when.
QUICK = (
    *(
        word
        for word in TINY
        if not word.startswith(("objective", "attack", "select", "training", "finetune"))
    ),
    *(
        "objective=natural",
        "training.epochs=1",
        "finetune.epochs=1",
        "select.images=16",
        "attack=fgsm",
    ),
    "attack.images=16",
)
SMALLEST = ("pruner=magnitude", "pruner.criterion._target_=scores.smallest")


def pruned(store: Path) -> dict[str, Any]:
    """The result of the only pruned stage; its kept weights are counted as ``nonzero``."""
    (folder,) = (store / "pruned").iterdir()
    weights, masks = (
        load_file(folder / "model.safetensors"),
        load_file(folder / "masks.safetensors"),
    )
    alive = sum(int(torch.count_nonzero(weights[name])) for name in masks)
    return json.loads((folder / "result.json").read_text()) | {"nonzero": alive}


@pytest.mark.parametrize(("epochs", "scope"), [(1, "layer"), (0, "global")])
def test_rounds_are_made_as_written_and_masks_only_shrink(
    job: Any, tmp_path: Path, epochs: int, scope: str
) -> None:
    """The criterion prefers what was removed, so a round that forgets the ones before it brings dead weights back."""
    rounds = (
        "pruner.schedule=linear",
        "pruner.rounds=3",
        f"pruner.epochs_per_round={epochs}",
        f"pruner.scope={scope}",
    )
    with heard() as asked:
        out = job(*QUICK, *SMALLEST, *rounds, "ratio=0.9")
    seen = asked[1:]  # the first was the dry run's
    assert "failed" not in out, out.get("failed")
    result = pruned(tmp_path / "stages")
    assert result["rounds"] == pytest.approx([0.3, 0.6, 0.9])
    assert result["rounds_epochs"] == [epochs, epochs, 0]
    sizes = [mask.numel() for mask in seen[0].values()]
    layers = [sizes] if scope == "layer" else [[sum(sizes)]]
    expected = [sum(keep_count(n, ratio) for n in layers[0]) for ratio in result["rounds"]]
    assert result["rounds_kept"] == expected
    assert result["nonzero"] == result["weights_kept"] == expected[-1]
    assert len(seen) == 3  # each round scored once, on what the rounds before it left
    for before, after in pairwise(seen):
        assert all((after[name] | ~before[name]).all() for name in before)
    gone = [sum(int(zeros.sum()) for zeros in masks.values()) for masks in seen]
    assert gone == [0, *(sum(sizes) - kept for kept in expected[:-1])]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            (
                "objective=free",
                "pruner=random",
                "pruner.schedule=cubic",
                "pruner.rounds=5",
                "pruner.epochs_per_round=1",
            ),
            r"epochs_per_round=1 is no whole number of passes.*counts as 4 epochs.* give 0, which trains nothing .* or 4",
        ),
        (
            (
                "objective=free",
                "pruner=filters",
                "pruner.schedule=linear",
                "pruner.rounds=2",
                "pruner.epochs_per_round=6",
            ),
            "epochs_per_round=6 is no whole number of passes.* give 4 or 8",
        ),
        (
            (
                "pruner=magnitude",
                "pruner.schedule=linear",
                "pruner.rounds=5",
                "pruner.epochs_per_round=-1",
            ),
            "epochs_per_round=-1 is not possible: it must be at least 0",
        ),
        (
            ("pruner=hydra", "pruner.schedule=linear", "pruner.rounds=5", "search.epochs=3"),
            "rounds=5 share search.epochs=3.* give search.epochs=5 or more",
        ),
        (
            (
                "pruner=hydra",
                "objective=free",
                "pruner.schedule=linear",
                "pruner.rounds=3",
                "search.epochs=8",
            ),
            "rounds=3 share search.epochs=8, where each pass .* give search.epochs=12 or more",
        ),
        (("pruner=magnitude", "pruner.schedule=cubic"), "schedule=cubic with rounds=1 is one shot"),
        (("pruner=hydra", "pruner.schedule=linear"), "schedule=linear with rounds=1 is one shot"),
        (
            ("pruner=filters", "pruner.schedule=exponential"),
            "schedule=exponential with rounds=1 is one shot",
        ),
        (
            ("pruner=magnitude", "pruner.recovery=rewind", "training.epochs=4"),
            r"a tenth of the dense training.*epochs=4 that is no epoch: give training.epochs=6 or more",
        ),
        (
            ("pruner=magnitude", "pruner.recovery=rewind", "objective=free", "training.epochs=20"),
            "give training.epochs=22 or more",
        ),
        (
            (
                "pruner=magnitude",
                "pruner.recovery=rewind",
                "training.epochs=20",
                "dense=a.safetensors",
            ),
            "came from a file",
        ),
        (
            ("pruner=magnitude", "pruner.round_to=8"),
            "round_to=8 is not looked at.*removes single weights",
        ),
        (("pruner=hydra", "pruner.budget=macs"), "budget=macs is not looked at"),
        (
            ("pruner=blocks", "model=resnet20", "pruner.scope=global"),
            "scope=global is not looked at",
        ),
        (("pruner=blocks", "model=resnet20", "pruner.round_to=8"), "round_to=8 rounds filters"),
        (("pruner=filters", "pruner.budget=filters", "pruner.floor=3"), "floor=3 is not looked at"),
        (
            ("pruner=hydra", "pruner.process.bn=freeze_all"),
            "bn=freeze_all is not looked at: .* no normalisation",
        ),
        (("attack=pgd_float_twin",), "attack.variant=float_twin .* quantizer=ptq_static"),
    ],
)
def test_what_would_not_be_done_is_refused_before_training(
    job: Any, tmp_path: Path, overrides: tuple[str, ...], sentence: str
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    given = [word.replace("=a.safe", f"={tmp_path}/a.safe") for word in overrides]
    out = job("trainer=cpu", "ratio=0.5", *given)
    assert "failed" in out
    assert out["failed"].count("\n") == 0, out["failed"]
    assert re.search(sentence, out["failed"]), out["failed"]
    assert not (tmp_path / "stages").exists()


def test_rewinding_goes_back_to_the_early_weights(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the initial ones, and the schedule goes on where it was."""
    began: list[Any] = []

    def watched(net: Any, *args: Any, start: float = 0.0, **kwargs: Any) -> Any:
        began.append((start, net.export()[0]))
        return train(net, *args, start=start, **kwargs)

    train = finetuned.train
    monkeypatch.setattr(finetuned, "train", watched)
    out = job(
        *QUICK, "training.epochs=6", "pruner=magnitude", "ratio=0.5", "pruner.recovery=rewind"
    )
    assert "failed" not in out, out.get("failed")
    ((start, weights),) = began
    early = load_file(Path(out["row"]["files"]["dense"]) / "early.safetensors")
    masks = load_file(Path(out["row"]["files"]["finetuned"]) / "masks.safetensors")
    assert start == pytest.approx(1 / 6)
    for name, value in early.items():
        assert torch.equal(weights[name], value * masks[name] if name in masks else value), name
    (dense,) = {Path(out["row"]["files"]["dense"])}
    last = load_file(dense / "last.safetensors")
    assert not torch.equal(early["conv1.weight"], last["conv1.weight"])
