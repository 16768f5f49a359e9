"""Small things that a wrong number would slip through: each fails if its guard is taken away."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY
from plain_options import pruner
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advprune.config.groups import Dataset, Method, build, typed
from advprune.distributed.sharding import seed_step
from advprune.errors import UserError
from advprune.modules import adversarial_images
from advprune.modules.evaluation import RobustEvaluation
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import KeepBest, KeepEarly
from advprune.pruners import masking
from advprune.stages import finetuned
from advprune.threat import L2, Linf, Threat


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5)], ids=["linf", "l2"])
def test_a_ball_ends_at_its_eps(ball: Threat) -> None:
    x = torch.full((2, 1, 4, 4), 0.5)
    step = torch.zeros_like(x)
    step[1, 0, 0, 0] = 1.0  # of length 1 in both norms
    inside = adversarial_images.check_adversarial(x + (ball.eps + 5e-6) * step, x, ball, "a")
    torch.testing.assert_close(inside, torch.tensor([0.0, ball.eps]), atol=1e-5, rtol=0)
    for over in (5e-5, 0.01, 0.4):
        with pytest.raises(UserError, match="attack a left the ball"):
            adversarial_images.check_adversarial(x + (ball.eps + over) * step, x, ball, "a")


@pytest.mark.parametrize("pixel", [-0.01, 1.01])
def test_pixels_end_at_0_and_1_whatever_the_ball(pixel: float) -> None:
    x = torch.full((1, 1, 2, 2), pixel).clamp(0, 1)
    for ball in (Linf(0.5), None):
        with pytest.raises(UserError, match="outside"):
            adversarial_images.check_adversarial(torch.full_like(x, pixel), x, ball, "a")


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2] + torch.rand(len(x), 2)


HONEST = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
DOUBTED = {
    "random": Noisy(),
    "probabilities, not logits": nn.Sequential(HONEST, nn.Softmax(1)),
    "exactly zero": nn.Sequential(nn.Threshold(0.5, 0.0), HONEST, nn.Threshold(1e9, 1.0)),
    "never seen a batch": nn.Sequential(nn.BatchNorm2d(1), HONEST).eval(),
}


@pytest.mark.parametrize("what", DOUBTED)
def test_what_fools_attacks_is_doubted(what: str, tmp_path: Path) -> None:
    x, y = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 0, 1])
    assert adversarial_images.evaluation_warnings(HONEST, x, y) == []
    assert any(
        what in sentence for sentence in adversarial_images.evaluation_warnings(DOUBTED[what], x, y)
    )
    module = RobustEvaluation(
        DOUBTED[what], lambda net, x, y: x, name="a", threat=Linf(0.1), parts=tmp_path, seed=0
    )
    module.test_step((x, y, torch.arange(4)), 0)
    assert any(what in sentence for sentence in module.doubts)


class Over(nn.Module):
    """Class 1 where the first pixel is above a half."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, :1]
        return torch.cat([0.5 - first, first - 0.5], 1)


def test_an_image_that_is_wrong_on_x_is_not_robust_though_it_is_right_on_x_adv(
    tmp_path: Path,
) -> None:
    x = torch.tensor([0.4, 0.6, 0.4, 0.6]).view(4, 1, 1, 1)
    y = torch.tensor([1, 1, 0, 0])

    def attack(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return 1 - x  # the other side, for all of them

    module = RobustEvaluation(Over(), attack, name="a", threat=Linf(0.3), parts=tmp_path, seed=0)
    module.test_step((x, y, torch.arange(4)), 0)
    rows = module.records()
    assert rows["clean_ok"] == [False, True, True, False]
    assert rows["adv_pred"] == [1, 0, 1, 0]
    assert rows["robust_ok"] == [False] * 4
    (tmp_path / "b").mkdir()
    still = RobustEvaluation(
        Over(), lambda net, x, y: x, name="a", threat=Linf(0.3), parts=tmp_path / "b", seed=0
    )
    still.test_step((x, y, torch.arange(4)), 0)
    assert still.records()["robust_ok"] == [False, True, True, False]


def test_each_step_of_each_purpose_and_run_draws_its_own_numbers() -> None:
    def drawn(*place: Any) -> float:
        seed_step(*place)
        return torch.rand(()).item()

    places = [
        (seed, purpose, step)
        for seed in (0, 1)
        for purpose in ("train", "attack")
        for step in (0, 1, 2, 10)
    ]
    assert len({drawn(*place) for place in places}) == len(places)
    assert drawn(1, "attack", 2) == drawn(1, "attack", 2)


def keep(callback: Any, accuracies: list[float]) -> list[float]:
    """Show a callback one epoch after another; the weight that is on disk after each."""
    net, on_disk = nn.Linear(1, 1), []
    for epoch, accuracy in enumerate(accuracies):
        nn.init.constant_(net.weight, epoch + 1)
        measured = {"clean_acc": 1 - accuracy, "robust_acc": accuracy}
        trainer: Any = SimpleNamespace(current_epoch=epoch, is_global_zero=True, global_step=epoch)
        module: Any = SimpleNamespace(
            net=net, validated=lambda measured=measured: measured, may_be_best=lambda: True
        )
        callback.on_train_start(trainer, module)
        callback.on_train_epoch_end(trainer, module)
        callback.on_validation_epoch_end(trainer, module)
        on_disk.append(load_file(callback.path)["weight"].item() if callback.path.exists() else 0.0)
    return on_disk


@pytest.mark.parametrize(
    ("metric", "kept"), [("robust_acc", [1, 2, 2, 4, 4, 6]), ("clean_acc", [1, 1, 3, 3, 5, 5])]
)
def test_of_equally_good_epochs_the_later_one_is_kept(
    metric: str, kept: list[float], tmp_path: Path
) -> None:
    best = KeepBest(tmp_path / "best.safetensors", metric)
    assert keep(best, [0.5, 0.7, 0.4, 0.7, 0.4, 0.7]) == kept
    assert (best.best["epoch"], best.last["epoch"]) == (kept[-1], 6)


@pytest.mark.parametrize(("epoch", "kept"), [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0, 2, 2])])
def test_early_weights_are_those_after_their_epoch(
    epoch: int, kept: list[float], tmp_path: Path
) -> None:
    assert keep(KeepEarly(tmp_path / "early.safetensors", epoch), [0.5, 0.5, 0.5]) == kept


def test_rewinding_goes_back_to_a_tenth_of_training_and_of_its_schedule(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten epochs: the weights after the first, and the other nine epochs from a tenth of the schedule on."""
    after, progress, original = [], [], RobustTraining.training_step

    def step(module: RobustTraining, batch: Any, index: int) -> Any:
        if index == 0:
            progress.append(module.progress)
            after.append(
                {name: value.detach().clone() for name, value in module.net.state_dict().items()}
            )
        return original(module, batch, index)

    monkeypatch.setattr(RobustTraining, "training_step", step)
    words = (
        "pruner=magnitude",
        "ratio=0.5",
        "pruner.recovery=rewind",
        "training.epochs=10",
        "finetune.epochs=10",
        "dataset.train_images=64",
        "select.metric=clean_acc",
        "objective=natural",
    )
    tiny = [word for word in TINY if not word.startswith("objective")]
    files = job(*tiny, *words)["row"]["files"]
    assert len(progress) == 10 + 9
    assert (progress[0], progress[10]) == (0.0, pytest.approx(0.1))
    early = load_file(Path(files["dense"]) / "early.safetensors")
    assert all(torch.equal(early[name], after[1][name]) for name in early)
    assert not all(torch.equal(early[name], after[0][name]) for name in early)
    masks = load_file(Path(files["finetuned"]) / "masks.safetensors")
    begun = {name.removeprefix("net."): value for name, value in after[10].items()}
    for name, value in early.items():
        expected = value * masks[name] if name in masks else value
        assert torch.equal(begun[name] * masks.get(name, torch.ones(())), expected), name


def test_the_last_round_prunes_within_the_rounds_before(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a criterion that would rather keep what was removed."""
    decided, original = [], masking.compute_masks

    def spied(*given: Any) -> Any:
        decided.append(original(*given))
        return decided[-1]

    def contrary(model: nn.Module, batches: Any) -> dict[str, Tensor]:
        return {name: -weight.abs() for name, weight in model.named_parameters() if weight.ndim > 1}

    monkeypatch.setattr(
        Method,
        "build",
        lambda method, **extra: (
            partial(contrary) if method.name == "magnitude" else build(method.node, **extra)
        ),
    )
    monkeypatch.setattr(masking, "compute_masks", spied)
    rounds = (
        "pruner=magnitude",
        "pruner.schedule=linear",
        "pruner.rounds=3",
        "pruner.epochs_per_round=1",
    )
    assert "failed" not in job(
        *TINY, *rounds, "ratio=0.6", "objective.attack.steps=1", "attack.steps=1"
    )
    assert len(decided) == 3
    for before, after in pairwise(decided):
        for name, mask in after.items():
            assert mask.sum() < before[name].sum()
            assert not (mask.cpu() & ~before[name].cpu()).any(), name


def test_a_count_that_is_off_by_more_than_rounding_is_a_defect() -> None:
    net = nn.Sequential(nn.Linear(40, 10, bias=False), nn.Linear(10, 10, bias=False))

    def masks(kept: int) -> dict[str, Tensor]:
        return {
            "0.weight": (torch.arange(400) < kept).view(10, 40),
            "1.weight": (torch.arange(100) < 50).view(10, 10),
        }

    for kept in (198, 200, 202):
        assert (
            masking.measure_sparsity(net, masks(kept), 0.5, pruner())["removable_kept"] == kept + 50
        )
    for kept in (197, 203):
        with pytest.raises(UserError, match=rf"kept {kept + 50} of 500 weights, not 250: a defect"):
            masking.measure_sparsity(net, masks(kept), 0.5, pruner())


def test_a_finetuned_network_with_a_living_pruned_weight_is_refused(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = finetuned.train

    def forgetful(net: Any, stage: Any, folder: Path, *given: Any, **options: Any) -> Any:
        told = original(net, stage, folder, *given, **options)
        weights = load_file(folder / "model.safetensors")
        weights["conv2.weight"] = weights["conv2.weight"] + 0.1
        save_file(weights, folder / "model.safetensors")
        return told

    monkeypatch.setattr(finetuned, "train", forgetful)
    out = job(*TINY, "pruner=magnitude", "ratio=0.5")
    assert "72 of the 72 pruned weights of conv2.weight are not zero" in out["failed"]


@pytest.mark.parametrize(("images", "seen"), [(7, 7), (None, 144), (1000, 144)])
def test_no_more_images_validate_than_were_asked_for(images: int | None, seen: int) -> None:
    dataset = {
        "_target_": "advprune.datasets.digits.Digits",
        "num_classes": 10,
        "channels": 1,
        "image_size": 8,
        "validation": 0.1,
        "augment": None,
        "name": "digits",
    }
    data = typed(Dataset, dataset).build(seed=0, batch_size=32, val_images=images)
    data.setup("fit")
    assert sum(len(batch[1]) for batch in data.val_dataloader()) == seen
