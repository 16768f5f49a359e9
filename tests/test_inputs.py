"""What images leave to train on and to choose by, and how many processors there are: decided before any training."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_keys import OPTIONS
from torch import nn

from advprune.config.options import options_of
from advprune.datasets.file_loaders import FileTrainLoader
from advprune.datasets.files import Files
from advprune.datasets.image_folder import ImageFolder
from advprune.datasets.images import Split
from advprune.datasets.listing import class_names, list_images, list_split
from advprune.datasets.loader import TrainLoader
from advprune.distributed.sharding import Shard, bounds
from advprune.errors import UserError
from advprune.pipeline.dry_run import check_training
from advprune.runtime.provenance import SHARE, cgroup_quota, usable_processors
from advprune.stages.dense import check_choice


def picture(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in "ab":
            picture(tmp_path / split / name / "0.png")
    return tmp_path


def split_of(count: int) -> Split:
    return Split(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count))


# the last batch


@pytest.mark.parametrize(
    ("count", "size", "least", "expected"),
    [
        (65, 64, 2, [(0, 65)]),
        (129, 64, 2, [(0, 64), (64, 129)]),
        (130, 64, 2, [(0, 64), (64, 128), (128, 130)]),
        (128, 64, 2, [(0, 64), (64, 128)]),
        (1, 64, 2, [(0, 1)]),
        (3, 1, 2, [(0, 1), (1, 3)]),
        (131, 64, 4, [(0, 64), (64, 131)]),
    ],
)
def test_a_last_image_alone_joins_the_batch_before(count, size, least, expected):
    assert bounds(count, size, least) == expected


@pytest.mark.parametrize("count", range(2, 20))
def test_batches_cover_each_epoch_once_and_none_has_one_image(count):
    for size in range(2, 9):
        loader = TrainLoader(split_of(count), batch_size=size, seed=0)
        seen = [y for _, y in loader]
        assert sorted(torch.cat(seen).tolist()) == list(range(count))
        assert min(map(len, seen)) >= 2
        assert len(seen) == len(loader)
        if count % size != 1:  # nothing else has changed
            assert [len(y) for y in seen] == [len(y) for y in torch.arange(count).split(size)]


def test_ranks_see_the_batches_of_one_process_and_repeats_are_of_the_joined_batch():
    whole = [y.tolist() for _, y in TrainLoader(split_of(9), batch_size=4, seed=3, repeats=2)]
    assert [len(y) for y in whole] == [4, 4, 5, 5]
    assert whole[2] == whole[3]
    parts = [
        [
            y.tolist()
            for _, y, _ in TrainLoader(
                split_of(9), batch_size=4, seed=3, repeats=2, share=Shard(r, 2)
            )
        ]
        for r in range(2)
    ]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(y) for y in whole]


def test_extra_images_keep_a_last_one_company():
    loader = TrainLoader(split_of(9), batch_size=4, seed=0, extra=split_of(5))
    assert [len(y) for _, y in loader] == [8, 8, 2]


def test_files_are_batched_as_images_in_memory_are(tree):
    paths = [str(tree / "train" / name / "0.png") for name in "ab"] * 4 + [
        str(tree / "test" / "a" / "0.png")
    ]
    loader = FileTrainLoader(
        Files(paths, torch.arange(9), 1, 8), batch_size=4, seed=0, flip=False, workers=0
    )
    assert [len(y) for _, y in loader] == [4, 5]
    assert len(loader) == 2


def test_a_training_set_of_one_image_is_refused(tree):
    with pytest.raises(
        UserError, match="leaves one image to train on: a classifier is trained on at least two"
    ):
        ImageFolder(name="tree", root=str(tree), image_size=8, validation=0, train_images=1).setup()


class Deep(nn.Module):
    """A network whose BatchNorm sees one value a channel and image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.mean((1, 2, 3))[:, None])


def checked(
    net: nn.Module, *, batch_size: int = 1, validation: float = 0.1, **changed: Any
) -> None:
    """A job that fine-tunes with batches of so many images."""
    dataset = OPTIONS["dataset"] | {"validation": validation}
    finetune = OPTIONS["finetune"] | {"batch_size": batch_size}
    check_training(options_of(OPTIONS | {"dataset": dataset, "finetune": finetune} | changed), net)


def test_batches_of_one_image_are_refused_where_batchnorm_would_fail_and_only_there():
    with pytest.raises(
        UserError, match=r"finetune\.batch_size=1 is not possible .* give at least 2"
    ):
        checked(Deep())
    checked(nn.Flatten())
    checked(Deep(), batch_size=2)
    checked(Deep(), checkpoint="x.pt")


def test_the_best_of_no_validation_is_refused_and_the_last_is_possible():
    with pytest.raises(UserError, match=r"give select\.keep=last, or hold images out"):
        checked(Deep(), batch_size=2, validation=0)
    last = OPTIONS["select"] | {"keep": "last"}
    checked(Deep(), batch_size=2, validation=0, select=last)
    with pytest.raises(UserError, match="no image validates"):
        check_choice("best", 0)  # as a share that rounds to none leaves


# trees


def test_a_class_empty_in_one_split_has_a_cure_that_works(tree):
    for name in "cd":
        picture(tree / "train" / name / "0.png")
    (tree / "test" / "c").mkdir()
    with pytest.raises(UserError, match="test lacks d; give both the same"):
        list_images(tree, "test")
    (tree / "train" / "d" / "0.png").unlink()
    (tree / "train" / "d").rmdir()  # one of the two that the sentence names
    with pytest.raises(
        UserError, match=r"test/c has no file, .* remove the folder c from both train and test"
    ):
        list_images(tree, "test")
    (tree / "train" / "c" / "0.png").unlink()
    (tree / "train" / "c").rmdir()
    (tree / "test" / "c").rmdir()
    assert list_images(tree, "test") == (["a/0.png", "b/0.png"], [0, 1])


def test_letter_case_of_class_folders_is_told(tree):
    (tree / "test" / "b").rename(tree / "test" / "B")
    with pytest.raises(UserError, match=r"test lacks b, and alone has B; .*letter case counts"):
        list_images(tree, "test")


def test_one_class_is_refused(tmp_path):
    picture(tmp_path / "train" / "images" / "a" / "0.png")
    with pytest.raises(
        UserError, match="one class folder only, images, and a classifier needs at least two"
    ):
        class_names(tmp_path)


def test_links_to_a_folder_above_are_refused_and_others_are_followed(tree, tmp_path):
    inside = tree / "train" / "a" / "inside"
    for target in (tree / "train" / "a", tree / "train", tree, inside):
        inside.symlink_to(target)
        with pytest.raises(UserError, match="remove"):
            list_images(tree, "train")
        inside.unlink()
    picture(tmp_path / "elsewhere" / "x.png")
    inside.symlink_to(tmp_path / "elsewhere")
    assert list_images(tree, "train")[0] == ["a/0.png", "a/inside/x.png", "b/0.png"]


def test_files_left_out_are_counted_and_named(tree, caplog):
    for name in ("a/0.heic", "a/deep/notes.txt", "b/.hidden.png", ".DS_Store", "readme.md"):
        path = tree / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    os.mkfifo(tree / "train" / "b" / "pipe.png")  # opening it would never end
    assert sorted(list_split(tree, "train").left_out) == [
        "a/0.heic",
        "a/deep/notes.txt",
        "b/pipe.png",
        "readme.md",
    ]
    ImageFolder(name="tree", root=str(tree), image_size=8, validation=0, workers=1).setup()
    said = [record.message for record in caplog.records if "left out" in record.message]
    assert len(said) == 1
    assert "4 files are left out (a/0.heic, a/deep/notes.txt, b/pipe.png, readme.md)" in said[0]


def test_a_class_of_other_files_names_one(tree):
    (tree / "train" / "b" / "0.png").rename(tree / "train" / "b" / "0.heic")
    with pytest.raises(UserError, match=r"train/b has only other files, such as b/0\.heic"):
        list_images(tree, "train")


def test_a_folder_that_may_not_be_read_is_named(tree, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("train/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(
        UserError, match=r"the folder .*train/b cannot be read \(Permission denied\)"
    ):
        list_images(tree, "train")


# processors


def test_processors_are_those_of_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr("advprune.runtime.provenance.cgroup_quota", lambda: None)
    assert usable_processors() == 3
    assert ImageFolder(name="tree", root="x").workers == 3
    monkeypatch.setattr("advprune.runtime.provenance.cgroup_quota", lambda: 1.5)
    assert usable_processors() == 2
    monkeypatch.setattr("advprune.runtime.provenance.cgroup_quota", lambda: 0.1)
    assert usable_processors() == 1
    monkeypatch.setattr("advprune.runtime.provenance.cgroup_quota", lambda: None)
    for share, expected in (("2", 2), ("4", 3)):  # of a grid's job
        monkeypatch.setenv(SHARE, share)
        assert usable_processors() == expected


def test_the_smallest_quota_of_the_groups_that_hold_this_process_counts(tmp_path):
    group = tmp_path / "v2" / "slice" / "job"
    group.mkdir(parents=True)
    (tmp_path / "self").write_text("0::/slice/job\n")
    assert cgroup_quota(tmp_path / "v2", tmp_path / "self") is None
    (group / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path / "v2", tmp_path / "self") is None
    (group.parent / "cpu.max").write_text("250000 100000\n")
    assert cgroup_quota(tmp_path / "v2", tmp_path / "self") == 2.5
    group = tmp_path / "v1" / "cpu" / "job"
    group.mkdir(parents=True)
    (tmp_path / "self").write_text("9:memory:/other\n1:cpu,cpuacct:/job\n")
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(tmp_path / "v1", tmp_path / "self") is None
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    assert cgroup_quota(tmp_path / "v1", tmp_path / "self") == 0.5
