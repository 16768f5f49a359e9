"""A dense network that was sparse before: its zeros stay, whatever prunes it, and the row says that it had them."""

from pathlib import Path
from typing import Any

import pytest
from networks import network
from plain_options import pruner
from safetensors.torch import load_file, save_file
from test_budget import plan
from test_rounds import QUICK

from advprune.errors import UserError
from advprune.masks import keep_count, prunable
from advprune.pruners import sparse_parent
from advprune.stages.checkpoint import is_foreign

WEIGHTS = pruner(scope="global")


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A small network, every second weight of which is zero."""
    net = network(
        "small_cnn", widths=[4, 4, 4], image_size=8, in_channels=1, mean=[0.5], std=[0.25]
    )
    for weight in prunable(net).values():
        weight.data.view(-1)[::2] = 0
    path = tmp_path / "half.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("pruner=magnitude", "pruner.scope=global"),
        ("pruner=random", "pruner.schedule=linear", "pruner.rounds=2", "pruner.epochs_per_round=1"),
        ("pruner=hydra", "search.epochs=1", "pruner.process.init=kaiming"),
    ],
)
def test_its_zeros_stay_and_are_told(job: Any, half: Path, words: tuple[str, ...]) -> None:
    out = job(*QUICK, *words, f"dense={half}", "ratio=0.6")
    assert "failed" not in out, out.get("failed")
    before = load_file(half)
    after = load_file(Path(out["row"]["files"]["finetuned"]) / "model.safetensors")
    masks = load_file(Path(out["row"]["files"]["finetuned"]) / "masks.safetensors")
    for name in masks:
        assert not after[name][before[name] == 0].any(), name
    sizes = [mask.numel() for mask in masks.values()]
    counts = [sum(sizes)] if "pruner.scope=global" in words else sizes
    assert sum(int(mask.sum()) for mask in masks.values()) == sum(
        keep_count(n, 0.6) for n in counts
    )
    (doubt,) = (doubt for doubt in out["row"]["doubts"] if "zeros" in doubt)
    assert doubt.startswith(
        "the dense parent had 50.0% zeros among its prunable weights before it was pruned"
    )


@pytest.mark.parametrize("pruner", ["magnitude", "hydra", "gradient"])
def test_less_than_it_has_is_refused_before_anything_is_made(
    job: Any, tmp_path: Path, half: Path, pruner: str
) -> None:
    out = job(*QUICK, f"pruner={pruner}", f"dense={half}", "ratio=0.3")
    assert "ratio=0.3 is less than what is gone already" in out["failed"]
    assert "(0.5000) are zero, and pruning brings none back; give a larger ratio" in out["failed"]
    assert not [*(tmp_path / "stages").glob("*/*.json"), *(tmp_path / "stages").glob("dense/*")]


def test_only_a_network_from_a_file_is_asked_for_zeros(half: Path) -> None:
    """A layer that a network's author begins at zero was not pruned by anybody."""
    assert not is_foreign(plan("pruner=hydra", "pruner.start=init").final)
    assert is_foreign(plan("pruner=hydra", f"dense={half}").final)


def test_a_few_zeros_are_accidents() -> None:
    net = network("small_cnn", widths=[8, 8, 8], image_size=8)
    prunable(net)["conv1.weight"].data[0, 0, 0, :2] = 0
    assert sparse_parent.masks_of(net, WEIGHTS) is None
    sparse_parent.check(net, WEIGHTS, 0.0)


def test_a_layer_with_too_little_left_is_named_and_global_spends_it() -> None:
    net = network("small_cnn", widths=[8, 8, 8], image_size=8)
    weight = prunable(net)["conv2.weight"].data
    weight[1:] = 0
    sparse_parent.check(net, WEIGHTS, 0.7)
    with pytest.raises(
        UserError, match=r"by scope=layer keeps .* weights of conv2.weight, and .* are left of it"
    ):
        sparse_parent.check(net, pruner(scope="layer"), 0.7)


def test_rounds_go_on_from_what_is_gone() -> None:
    net = network("small_cnn", widths=[8, 8, 8], image_size=8)
    for weight in prunable(net).values():
        weight.data.view(-1)[::2] = 0
    within = sparse_parent.masks_of(net, WEIGHTS)
    assert sparse_parent.gone(net, WEIGHTS, within, 0.9) == pytest.approx(0.5, abs=0.01)
    sparse_parent.check(net, pruner(schedule="linear", rounds=4), 0.9)


def test_filters_say_that_zeros_may_fill_again(job: Any, half: Path) -> None:
    out = job(*QUICK, "pruner=filters", f"dense={half}", "ratio=0.2")
    assert "failed" not in out, out.get("failed")
    assert any(
        "50.0% zeros" in doubt and "may fill its zeros" in doubt for doubt in out["row"]["doubts"]
    )


def test_a_dense_parent_is_not_doubted() -> None:
    net = network("small_cnn", widths=[4, 4, 4], image_size=8)
    assert sparse_parent.parent_facts(net, unit=None) == {}
