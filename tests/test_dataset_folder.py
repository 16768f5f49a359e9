"""Class-per-folder trees, small and large: what is read, what is said of one laid out otherwise, fingerprints."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advprune.datasets import decode
from advprune.datasets.image_folder import ImageFolder
from advprune.datasets.images import CropFlip
from advprune.datasets.listing import class_names, list_images
from advprune.datasets.manifest import Checksums
from advprune.datasets.tree_hash import fingerprint
from advprune.errors import UserError


def colour(label: int, number: int, size: int = 8) -> np.ndarray:
    """An image that carries its class and number, and is lossless as PNG."""
    return np.full((size, size, 3), (10 * label, number, 200), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path) -> Path:
    """Three classes of 4 training and 2 test images, 8x8."""
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("ant", "bee", "cat")):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(colour(label, number)).save(folder / f"{number}.png")
    return tmp_path / "tree"


def folder(root: Path, **options) -> ImageFolder:
    return ImageFolder(
        **{"name": "tree", "root": str(root), "image_size": 8, "validation": 3} | options
    )


def test_image_folder_reads_every_image_once_with_its_label(tree, tmp_path, monkeypatch):
    data = folder(tree, cache=str(tmp_path / "cache"), num_classes=3)
    assert data.sizes == {"train": 9, "val": 3, "test": 6}
    test = data.split("test")
    assert test.images.dtype == torch.uint8
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    expected = np.stack(
        [colour(label, number).transpose(2, 0, 1) for label in range(3) for number in range(2)]
    )
    assert np.array_equal(test.images.numpy(), expected)
    seen = {
        (int(x[0, 0, 0]) // 10, int(x[1, 0, 0]))
        for s in ("train", "val")
        for x in data.split(s).images
    }
    assert seen == {(label, number) for label in range(3) for number in range(4)}

    def refuse(*_, **__):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "open_image", refuse)
    again = folder(tree, cache=str(tmp_path / "cache"))
    assert torch.equal(again.split("test").images, test.images)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_the_cache_tells_trees_of_equal_names_apart_and_survives_damage(tree, tmp_path):
    cache = tmp_path / "cache"
    before = folder(tree, cache=str(cache)).split("test").images
    Image.fromarray(colour(9, 99)).save(tree / "test" / "ant" / "0.png")
    after = folder(tree, cache=str(cache)).split("test").images
    assert after[0, 0, 0, 0] == 90
    assert torch.equal(after[1:], before[1:])
    for stored in cache.glob("*.npy"):
        stored.write_bytes(stored.read_bytes()[:150])
    assert torch.equal(folder(tree, cache=str(cache)).split("test").images, after)


def test_grey_jpegs_in_subfolders_and_val_for_test(tree):
    (tree / "test").rename(tree / "val")
    nested = tree / "train" / "ant" / "images"
    nested.mkdir()
    Image.fromarray(np.full((8, 8), 77, dtype=np.uint8)).save(nested / "x.JPEG")
    (tree / "train" / "ant" / "notes.txt").write_text("not an image")
    data = folder(tree, channels=1, validation=0)
    assert data.sizes == {"train": 13, "val": 0, "test": 6}
    assert data.channels == 1
    assert list(data.val_dataloader()) == []
    assert abs(int(data.split("train").images[4].float().mean()) - 77) <= 1


@pytest.mark.parametrize("size", [8, 96])
def test_an_unreadable_image_is_named(tree, size):
    bad = tree / "train" / "bee" / "2.png"
    if size > 64:
        for path in tree.rglob("*.png"):
            Image.open(path).resize((100, 100)).save(path)
    bad.write_bytes(bad.read_bytes()[:45])
    data = folder(tree, image_size=size, validation=0, workers=1)
    with pytest.raises(UserError, match=r"train/bee/2\.png cannot be read as an image") as error:
        list(data.train_dataloader())
    assert "Traceback" not in str(error.value)


def test_trees_laid_out_otherwise_are_refused_by_name(tree, tmp_path):
    def said(root: Path, **options) -> str:
        with pytest.raises(UserError) as error:
            folder(root, **options).setup()
        return str(error.value)

    (tmp_path / "flat" / "train").mkdir(parents=True)
    assert "train has no class folders" in said(tmp_path / "flat")
    assert "train is not there" in said(tmp_path / "nowhere")
    assert "has 8x8 pixels" in said(tree, image_size=32)
    assert "give dataset.image_size=8" in said(tree, image_size=224)
    assert "dataset.num_classes=4" in said(tree, num_classes=4)
    (tree / "test" / "dog").mkdir()
    assert "not the same class folders as train: test alone has dog" in said(tree)
    (tree / "train" / "dog").mkdir()
    assert "train/dog has no file" in said(tree)
    (tree / "train" / "dog").rmdir()
    shutil.rmtree(tree / "test")
    assert "neither a folder test nor a folder val" in said(tree)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two classes of 6 training and 2 test images, 130x100: red grows to the right, green downwards, by 1 a pixel."""
    down, right = np.mgrid[:100, :130].astype(np.uint8)
    for split, count in (("train", 6), ("val", 2)):
        for label in range(2):
            place = tmp_path / split / f"c{label}"
            place.mkdir(parents=True)
            for number in range(count):
                blue = np.full_like(down, 10 * number + label)
                Image.fromarray(np.stack([right, down, blue], axis=2)).save(place / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_large_images_are_cropped_the_same_way_whatever_ran_before(photos, workers):
    def loader(seed: int, workers: int):
        options = {
            "image_size": 96,
            "validation": 2,
            "batch_size": 4,
            "augment": CropFlip(flip=True),
        }
        return folder(photos, seed=seed, workers=workers, **options).train_dataloader()

    torch.manual_seed(0)
    state = torch.get_rng_state()
    passed, jumped = loader(1, 0), loader(1, workers)
    first = list(passed)
    for one in (passed, jumped):
        one.sampler.set_epoch(1)
    second = list(passed)
    for (x, y), (x2, y2) in zip(second, jumped, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert torch.equal(torch.get_rng_state(), state)  # the run's own randomness is left alone
    assert [len(y) for _, y in second] == [4, 4, 2]
    x = torch.cat([x for x, _ in first + second])
    mirrored = x[:, 0, 48, 90] < x[:, 0, 48, 5]  # red falls to the right
    assert 0 < int(mirrored.sum()) < len(x) == 20
    assert len({tuple(image[:2].flatten().tolist()) for image in x}) == 20  # no two crops alike
    assert not torch.equal(first[0][0], next(iter(loader(2, 0)))[0])


def test_large_test_images_are_the_resized_middle(photos):
    data = folder(photos, image_size=96, validation=2, workers=0)
    batches = list(data.test_dataloader(torch.tensor([1, 3]), batch_size=1))
    assert [(int(y), int(position)) for _, y, position in batches] == [(0, 1), (1, 3)]
    red, green, blue = batches[1][0][0] * 255
    # 100 rows become 109, of which 96 are kept: the middle of the image is the middle of the crop
    assert float(red.mean()) == pytest.approx(64.5, abs=0.7)
    assert float(green.mean()) == pytest.approx(49.5, abs=0.7)
    assert float(green[-1].mean() - green[0].mean()) == pytest.approx(95 * 100 / 109, abs=1.5)
    assert blue.unique().tolist() == [11]
    assert (data.num_classes, data.channels, data.image_size) == (2, 3, 96)


def test_fingerprints_follow_the_data_and_not_its_place(tree, tmp_path):
    sums = Checksums(tmp_path / "manifests")
    original = fingerprint(tree, "train", sums)
    shutil.copytree(tree, tmp_path / "moved")
    assert fingerprint(tmp_path / "moved", "train", sums) == original
    (tree / "README").write_text("no image")
    (tree / "train" / "ant" / ".hidden.png").write_text("no image")
    assert fingerprint(tree, "train", sums) == original
    (tree / "train" / "ant" / "0.png").write_bytes(b"other pixels under the same name")
    changed = fingerprint(tree, "train", sums)
    (tree / "train" / "cat" / "3.png").rename(tree / "train" / "cat" / "4.png")
    renamed = fingerprint(tree, "train", sums)
    assert len({original, changed, renamed}) == 3
    assert class_names(tree) == ["ant", "bee", "cat"]
    assert list_images(tree, "test")[0][:3] == ["ant/0.png", "ant/1.png", "bee/0.png"]


def test_fingerprints_need_no_torch():
    code = "import sys, advprune.datasets.listing; print({'torch', 'numpy', 'PIL'} & sys.modules.keys())"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "set()\n"
    )
