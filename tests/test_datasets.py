"""Data sets as the frame sees them: splits, counts, YAMLs, and what Lightning does with them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

from advprune.datasets.base import ImageData
from advprune.datasets.digits import Digits
from advprune.datasets.images import CropFlip, Split, hold_out, subset
from advprune.errors import UserError
from advprune.ranges import fraction

CONF = Path(__file__).parents[1] / "conf" / "dataset"
#: Read by the frame, not by the class.
FRAME = {
    "mean",
    "std",
    "eps",
    "attack_steps",
    "epochs",
    "learning_rate",
    "content",
    "files",
    "verify",
}


class Numbered(ImageData):
    """120 training and 30 test images of 2x2 pixels, each carrying its own number so that any two can be told apart."""

    def load(self) -> tuple[Split, Split]:
        images = (
            torch.arange(150, dtype=torch.uint8)
            .view(150, 1, 1, 1)
            .expand(150, 1, 2, 2)
            .contiguous()
        )
        labels = torch.arange(150) % 3
        return Split(images[:120], labels[:120]), Split(images[120:], labels[120:])


def numbers(batches) -> list[int]:
    return torch.cat([batch[0][:, 0, 0, 0] for batch in batches]).mul(255).round().int().tolist()


def config(name: str) -> dict:
    node = OmegaConf.create({"dataset": OmegaConf.load(CONF / f"{name}.yaml")})
    return OmegaConf.to_container(node, resolve=True)["dataset"]


def test_train_validation_and_test_images_are_disjoint_and_complete():
    data = Numbered(name="numbered", validation=30, batch_size=7)
    train, val = numbers(data.train_dataloader()), numbers(data.val_dataloader())
    test = numbers(data.test_dataloader())
    assert data.sizes == {"train": 90, "val": 30, "test": 30}
    assert sorted(train + val) == list(range(120))
    assert test == list(range(120, 150))
    assert Counter(number % 3 for number in val) == {0: 10, 1: 10, 2: 10}
    assert (data.num_classes, data.channels, data.image_size) == (3, 1, 2)


def test_validation_images_are_the_same_for_every_seed_and_the_order_is_not():
    first, second = Numbered(name="n", seed=0), Numbered(name="n", seed=1)
    assert numbers(first.val_dataloader()) == numbers(second.val_dataloader())
    one, other = numbers(first.train_dataloader()), numbers(second.train_dataloader())
    assert one != other
    assert sorted(one) == sorted(other)


def test_split_of_a_few_images_is_pinned():
    # the counts follow from 12 of 40 by largest remainder; the indices are numpy's frozen stream,
    # and must never change
    labels = torch.tensor([0] * 25 + [1] * 11 + [2] * 4)
    kept, held = hold_out(labels, 12)
    assert np.bincount(labels[held]).tolist() == [
        8,
        3,
        1,
    ]  # 7.5, 3.3, 1.2 of which the first has the largest remainder
    assert held.tolist() == [2, 5, 11, 16, 17, 19, 22, 24, 26, 30, 35, 36]
    assert sorted(kept.tolist() + held.tolist()) == list(range(40))
    assert hold_out(labels, 0.3)[1].tolist() == held.tolist()


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.data())
@settings(deadline=None, max_examples=60)
def test_held_out_counts_are_exact_and_each_class_has_its_share(labels, data):
    amount = data.draw(st.integers(0, len(labels) - 1))
    kept, held = hold_out(torch.tensor(labels), amount)
    assert len(held) == amount
    assert sorted(kept.tolist() + held.tolist()) == list(range(len(labels)))
    for label, size in Counter(labels).items():
        got = sum(labels[index] == label for index in held.tolist())
        assert abs(got - amount * size / len(labels)) < 1


@pytest.mark.parametrize("amount", [-1, 40, 1.0, -0.1, True])
def test_impossible_validation_is_refused(amount):
    with pytest.raises(UserError, match=r"dataset\.validation"):
        hold_out(torch.zeros(40, dtype=torch.int64), amount)


def test_subsets_are_sorted_nested_and_seeded():
    small, large = subset(1000, 10), subset(1000, 500)
    assert small.tolist() == sorted(set(small.tolist()))
    assert set(small.tolist()) < set(large.tolist())
    assert len(large) == 500
    assert subset(1000, 10, seed=1).tolist() != small.tolist()
    assert subset(5, None).tolist() == subset(5, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("images", [0, -3, 1001, True, 2.5])
def test_impossible_subsets_are_refused(images):
    with pytest.raises(UserError, match=rf"attack\.images={images} .* from 1 to 1000"):
        subset(1000, images)


def test_few_training_images_are_a_part_of_many_and_leave_the_others_alone():
    few, many = (
        Numbered(name="n", train_images=10, val_images=5),
        Numbered(name="n", train_images=40),
    )
    assert few.sizes == {"train": 10, "val": 5, "test": 30}
    assert set(numbers(few.train_dataloader())) < set(numbers(many.train_dataloader()))
    assert set(numbers(few.val_dataloader())) < set(numbers(many.val_dataloader()))
    with pytest.raises(UserError, match=r"dataset\.train_images=109"):
        Numbered(name="n", train_images=109).setup()


def test_lightning_tells_the_epoch_and_a_resumed_run_sees_the_same(tmp_path):
    class Seen(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight, self.batches = torch.nn.Parameter(torch.zeros(1)), []

        def training_step(self, batch, _):
            self.batches.append((self.current_epoch, batch[0].flatten().tolist()))
            return self.weight.sum()

        def validation_step(self, batch, _):
            assert len(batch) == 2

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(epochs: int, checkpoint: str | None = None) -> tuple[pl.Trainer, list]:
        module, data = (
            Seen(),
            Numbered(name="n", batch_size=50, augment=CropFlip(flip=True), seed=3),
        )
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
        return trainer, module.batches

    _, whole = fit(3)
    interrupted, first = fit(2)
    interrupted.save_checkpoint(tmp_path / "at2.ckpt")
    _, rest = fit(3, str(tmp_path / "at2.ckpt"))
    assert first + rest == whole
    assert [epoch for epoch, _ in whole] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len({str(sorted(batch)) for _, batch in whole}) == 9


def test_chosen_test_images_come_with_their_positions():
    data = Numbered(name="n")
    chosen = subset(30, 7)
    (x, y, positions), *rest = data.test_dataloader(chosen, batch_size=7)
    assert not rest
    assert positions.tolist() == chosen.tolist() == [number - 120 for number in numbers([(x,)])]
    assert y.tolist() == [number % 3 for number in numbers([(x,)])]


@pytest.mark.parametrize("option", ["num_classes", "channels", "image_size"])
def test_a_set_that_differs_from_what_is_declared_is_refused(option):
    with pytest.raises(UserError, match=rf"dataset\.{option}=7 .* must be"):
        Numbered(name="n", **{option: 7}).setup()


def test_digits_are_the_real_scans():
    data = Digits(name="digits")
    assert data.sizes == {"train": 1294, "val": 144, "test": 359}
    splits = [data.split(name) for name in ("train", "val", "test")]
    images = torch.cat([split.images for split in splits]).flatten(1)
    assert len(images.unique(dim=0)) == 1797  # all scans differ, so none is in two splits
    assert set(images.unique().tolist()) == {round(level * 255 / 16) for level in range(17)}
    # the class counts scikit-learn documents; each split has them within one image
    counts = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert (sum(np.bincount(split.labels) for split in splits) == counts).all()
    assert all(
        (abs(np.bincount(split.labels) - counts * len(split) / 1797) < 1.5).all()
        for split in splits
    )


def test_digits_are_those_of_scikit_learn():
    scans = load_digits()
    whole, test = Digits(name="digits").load()
    ours = torch.cat([whole.images, test.images]).flatten(1).int().mul(16).div(255).round()
    theirs = {
        (*pixels, label)
        for pixels, label in zip(scans.data.tolist(), scans.target.tolist(), strict=True)
    }
    labels = torch.cat([whole.labels, test.labels]).tolist()
    assert {(*pixels, label) for pixels, label in zip(ours.tolist(), labels, strict=True)} == theirs


@pytest.mark.parametrize("name", sorted({path.stem for path in CONF.glob("*.yaml")} - {"custom"}))
def test_every_yaml_builds_its_set_and_says_what_the_frame_asks(name):
    node = config(name)
    data = instantiate({key: value for key, value in node.items() if key not in FRAME}, seed=3)
    assert isinstance(data, ImageData)
    assert (data.name, data.seed) == (name, 3)
    assert len(node["mean"]) == len(node["std"]) == node["channels"]
    assert 0 < fraction(node["eps"]["linf"]) <= 0.3
    assert fraction(node["eps"]["linf"]) < fraction(node["eps"]["l2"]) <= 10
    assert node["epochs"].keys() == node["learning_rate"].keys() == {"dense", "search", "finetune"}
    assert node["augment"]["flip"] is (name not in {"digits", "mnist", "svhn"})


def test_digits_yaml_holds_the_mean_of_the_training_images():
    data = Digits(name="digits")
    x = data.split("train").images / 255
    assert abs(float(x.mean()) - config("digits")["mean"][0]) < 2e-3
    assert abs(float(x.std()) - config("digits")["std"][0]) < 2e-3
