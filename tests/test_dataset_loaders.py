"""Batches: the order, the crop and flip, the extra half; exact counts, invariants, slow references."""

from collections import Counter

import numpy as np
import pytest
import torch

from advprune.datasets.digits import Digits
from advprune.datasets.extra import load_extra
from advprune.datasets.images import CropFlip, Split
from advprune.datasets.loader import EvalLoader, TrainLoader
from advprune.errors import UserError


def zeros(count: int) -> Split:
    return Split(
        torch.zeros(count, 1, 1, 1, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64)
    )


def test_each_epoch_is_a_permutation_and_depends_on_nothing_before_it():
    def epochs(chosen: list[int]) -> list[list[int]]:
        loader, seen = (
            TrainLoader(split, batch_size=16, seed=5, augment=CropFlip(crop=1, flip=True)),
            [],
        )
        for epoch in chosen:
            loader.sampler.set_epoch(epoch)
            seen.append(
                torch.cat([torch.cat([x.flatten(1), y[:, None]], 1) for x, y in loader]).tolist()
            )
        return seen

    split = Split(torch.randint(256, (100, 1, 4, 4), dtype=torch.uint8), torch.arange(100))
    passed = epochs([0, 1, 2, 3])
    assert epochs([3]) == [passed[3]]
    assert all(sorted(row[-1] for row in epoch) == list(range(100)) for epoch in passed)
    assert len({tuple(row[-1] for row in epoch) for epoch in passed}) == 4


def test_pixels_are_grey_levels_over_255_and_images_stay_uint8():
    levels = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1)
    loader = EvalLoader(
        Split(levels, torch.zeros(256, dtype=torch.int64)), batch_size=100, positions=True
    )
    batches = list(loader)
    assert torch.equal(
        torch.cat([x.flatten() for x, _, _ in batches]),
        torch.arange(256, dtype=torch.float32) / 255,
    )
    assert [len(x) for x, _, _ in batches] == [100, 100, 56]
    assert len(loader) == 3
    assert torch.cat([positions for _, _, positions in batches]).tolist() == list(range(256))
    data = Digits(name="digits")
    assert {data.split(name).images.dtype for name in ("train", "val", "test")} == {torch.uint8}
    assert data.split("train").labels.dtype == torch.int64


@pytest.mark.parametrize(("crop", "flip"), [(0, False), (0, True), (3, False), (4, True)])
def test_crop_and_flip_match_a_slow_reference(crop, flip):
    images = torch.randint(
        256, (40, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    augment = CropFlip(crop=crop, flip=flip)
    moves = augment.draw(40, torch.Generator().manual_seed(2))
    expected = images.clone()
    for n, (down, right, mirrored) in enumerate(moves.tolist()):
        for i in range(9):
            for j in range(9):
                row, column = i + down - crop, (8 - j if mirrored else j) + right - crop
                inside = 0 <= row < 9 and 0 <= column < 9
                expected[n, :, i, j] = images[n, :, row, column] if inside else 0
    assert torch.equal(augment.apply(images, moves), expected)


def test_moves_cover_all_shifts_evenly_and_flip_every_second_image():
    moves = CropFlip(crop=2, flip=True).draw(20_000, torch.Generator().manual_seed(0))
    counts = Counter(map(tuple, moves.tolist()))
    assert len(counts) == 5 * 5 * 2
    assert max(abs(count - 400) for count in counts.values()) < 5 * 400**0.5
    assert torch.equal(
        moves, CropFlip(crop=2, flip=True).draw(20_000, torch.Generator().manual_seed(0))
    )
    assert (
        abs(int(moves[:, 2].sum()) - 10_000) < 4 * 5000**0.5
    )  # four standard deviations of a fair coin
    assert not CropFlip(crop=2).draw(1000, torch.Generator().manual_seed(0))[:, 2].any()
    assert not CropFlip(flip=True).draw(1000, torch.Generator().manual_seed(0))[:, :2].any()


def test_everything_a_batch_is_made_of_is_where_the_images_are():
    # torch's meta device refuses operands of the processor as an accelerator does
    loader = TrainLoader(
        zeros(10), batch_size=4, seed=0, augment=CropFlip(crop=2, flip=True), extra=zeros(3)
    ).to("meta")
    batches = list(loader) + list(EvalLoader(zeros(10), batch_size=4, positions=True).to("meta"))
    assert {part.device.type for batch in batches for part in batch} == {"meta"}


def test_each_batch_is_half_extra_images_as_in_hydra():
    own, extra = zeros(50_000), zeros(500)
    extra = Split(extra.images + 255, torch.arange(500))
    loader = TrainLoader(own, batch_size=128, seed=0, extra=extra)
    own_half, extra_half, drawn = [], [], []
    for x, y in loader:
        half = len(x) // 2
        own_half.append(int((x[:half] == 0).sum()))
        extra_half.append(int((x[half:] == 1).sum()))
        drawn += y[half:].tolist()
    assert len(loader) == 391
    assert own_half == extra_half == [128] * 390 + [80]
    assert (
        sorted(drawn[:500]) == sorted(drawn[500:1000]) == list(range(500))
    )  # one shuffled pass after the other
    assert drawn[:500] != drawn[500:1000]


@pytest.mark.parametrize(("share", "extra"), [(0.7, 70), (0.25, 10), (0.5, 30)])
def test_a_batch_has_the_share_of_extra_images_that_is_asked_for(share, extra):
    more = Split(zeros(500).images + 255, torch.arange(500))
    loader = TrainLoader(zeros(90), batch_size=30, seed=0, extra=more, extra_share=share)
    for x, y in loader:
        assert (len(x), len(y)) == (30 + extra, 30 + extra)
        assert not x[:30].any()
        assert x[30:].min() == 1


def test_a_share_of_extra_images_without_any_is_refused():
    with pytest.raises(UserError, match=r"dataset\.extra_share=0\.7 is not looked at"):
        Digits(name="digits", extra_share=0.7)


def test_repeats_give_each_batch_again_and_count_as_steps():
    split = Split(torch.randint(256, (90, 1, 4, 4), dtype=torch.uint8), torch.arange(90))
    options = {"batch_size": 50, "seed": 0, "augment": CropFlip(crop=1)}
    once, thrice = (TrainLoader(split, repeats=count, **options) for count in (1, 3))
    expected = [x.tolist() for x, _ in once for _ in range(3)]
    assert [x.tolist() for x, _ in thrice] == expected
    assert (len(once), len(thrice)) == (2, 6)


@pytest.mark.parametrize("channel_last", [True, False])
def test_extra_images_are_read_either_way(tmp_path, channel_last):
    images = np.random.RandomState(0).randint(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.savez(
        tmp_path / "extra.npz",
        images=images.transpose(0, 2, 3, 1) if channel_last else images,
        labels=np.arange(5, dtype=np.uint8),
    )
    data = Digits(name="digits", extra=str(tmp_path / "extra.npz"), batch_size=64)
    assert np.array_equal(data.split("extra").images.numpy(), images)
    x, y = next(iter(data.train_dataloader()))
    assert len(x) == len(y) == 128
    assert set(y[64:].tolist()) == {0, 1, 2, 3, 4}


def test_extra_images_that_do_not_fit_are_refused(tmp_path):
    def said(**arrays) -> str:
        np.savez(tmp_path / "extra.npz", **arrays)
        with pytest.raises(UserError, match=r"dataset\.extra=.*extra\.npz") as error:
            load_extra(str(tmp_path / "extra.npz"), num_classes=10, channels=3, image_size=8)
        return str(error.value)

    good, labels = np.zeros((4, 8, 8, 3), dtype=np.uint8), np.zeros(4, dtype=np.int64)
    assert "'labels" in said(images=good)
    assert "float32" in said(images=good.astype(np.float32), labels=labels)
    assert "(4, 9, 8, 3)" in said(images=np.zeros((4, 9, 8, 3), dtype=np.uint8), labels=labels)
    assert "(3,)" in said(images=good, labels=labels[:3])
    assert "from 0 to 10" in said(images=good, labels=np.array([0, 1, 2, 10]))
    assert "cannot be read" in said(images=np.array([object()]), labels=labels)
    (tmp_path / "extra.npz").write_bytes(b"PK half of it")
    with pytest.raises(UserError, match=r"cannot be read"):
        load_extra(str(tmp_path / "extra.npz"), num_classes=10, channels=3, image_size=8)
    with pytest.raises(UserError, match=r"is not there"):
        load_extra(str(tmp_path / "none.npz"), num_classes=10, channels=3, image_size=8)
