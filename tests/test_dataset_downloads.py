"""torchvision's sets: what is read, and what is said when files are missing or broken."""

import gzip
import pickle
import struct
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
from torchvision.datasets.utils import calculate_md5

from advprune.datasets import torchvision_sets
from advprune.datasets.torchvision_sets import CIFAR10, CIFAR100, MNIST, SVHN, FashionMNIST
from advprune.errors import UserError


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.usefixtures("offline")
def test_mnist_has_the_published_counts(shared, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in (shared / "data" / "mnist").glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    data = MNIST(name="mnist", root=str(tmp_path), num_classes=10, channels=1, image_size=28)
    assert data.test_count == 10_000  # known without the files, too
    assert data.sizes == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert torch.bincount(data.split("test").labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    whole = torch.cat([data.split("train").images, data.split("val").images])
    assert whole.shape == (60_000, 1, 28, 28)
    assert whole.dtype == torch.uint8
    x = whole.double() / 255
    assert float(x.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(x.std()) == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.usefixtures("offline")
def test_archives_put_in_place_are_unpacked_and_a_truncated_file_is_named(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.RandomState(0).randint(0, 256, (4, 28, 28), dtype=np.uint8)
    contents = {
        "images-idx3-ubyte": b"\0\0\x08\x03" + struct.pack(">III", 4, 28, 28) + images.tobytes(),
        "labels-idx1-ubyte": b"\0\0\x08\x01" + struct.pack(">I", 4) + bytes([3, 1, 0, 2]),
    }
    names = [f"{split}-{kind}.gz" for split in ("train", "t10k") for kind in contents]
    for name in names:
        (raw / name).write_bytes(gzip.compress(contents[name.split("-", 1)[1][:-3]]))
    resources = [(name, calculate_md5(raw / name)) for name in names]
    monkeypatch.setattr(torchvision_sets.datasets.MNIST, "resources", resources)
    data = MNIST(name="mnist", root=str(tmp_path), validation=1)
    assert data.sizes == {"train": 3, "val": 1, "test": 4}
    assert np.array_equal(data.split("test").images[:, 0].numpy(), images)
    assert data.split("test").labels.tolist() == [3, 1, 0, 2]
    (raw / "t10k-images-idx3-ubyte").write_bytes(contents["images-idx3-ubyte"][:-10])
    with pytest.raises(
        UserError, match=r"truncated.*: \S*/MNIST/raw/t10k-images-idx3-ubyte; delete"
    ):
        MNIST(name="mnist", root=str(tmp_path)).setup()


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("kind", "place", "files"),
    [
        (
            MNIST,
            "MNIST/raw",
            [
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
            ],
        ),
        (
            FashionMNIST,
            "FashionMNIST/raw",
            ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
        ),
        (CIFAR10, "", ["cifar-10-python.tar.gz"]),
        (CIFAR100, "", ["cifar-100-python.tar.gz"]),
        (SVHN, "", ["train_32x32.mat", "test_32x32.mat"]),
    ],
)
def test_without_a_network_one_sentence_says_which_files_go_where(kind, place, files, tmp_path):
    with pytest.raises(UserError) as error:
        kind(name="it", root=str(tmp_path)).setup()
    said = str(error.value)
    assert f"into {tmp_path / place}" in said
    assert all(file in said for file in files)
    assert "no network" in said
    assert "dataset.root=" in said
    assert "\n" not in said
    assert "extra_32x32" not in said


@pytest.mark.usefixtures("offline")
def test_a_truncated_download_is_named_and_an_interrupted_one_removed(tmp_path, monkeypatch):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"truncated.*/cifar-10-python\.tar\.gz; delete"):
        CIFAR10(name="cifar10", root=str(tmp_path)).setup()
    assert archive.exists()
    archive.unlink()

    def interrupted(*_, **__):
        archive.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision_sets.CIFAR10, "_open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CIFAR10(name="cifar10", root=str(tmp_path)).setup()
    assert not archive.exists()


def test_svhn_and_cifar_layouts_become_channel_first(tmp_path, monkeypatch):
    """A stand-in for each of torchvision's layouts, in its own order of axes."""
    images = torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8)
    labels = [1, 2, 0, 0, 2, 1]
    mat = {
        "X": images.permute(2, 3, 1, 0).numpy(),
        "y": np.array([[n or 10] for n in labels]),
    }  # SVHN's 0 is a 10
    parts = {}
    for split in ("train", "test"):
        scipy.io.savemat(tmp_path / f"{split}.mat", mat)
        parts[split] = ["http://it/x.mat", f"{split}.mat", calculate_md5(tmp_path / f"{split}.mat")]
    monkeypatch.setattr(torchvision_sets.datasets.SVHN, "split_list", parts)
    (tmp_path / "batches").mkdir()
    contents = {
        "one": {"data": images.flatten(1).numpy(), "labels": labels},
        "meta": {"label_names": ["a"]},
    }
    for name, entry in contents.items():
        (tmp_path / "batches" / name).write_bytes(pickle.dumps(entry))
    md5 = {name: calculate_md5(tmp_path / "batches" / name) for name in contents}
    cifar = torchvision_sets.datasets.CIFAR10
    monkeypatch.setattr(cifar, "base_folder", "batches")
    monkeypatch.setattr(cifar, "train_list", [["one", md5["one"]]])
    monkeypatch.setattr(cifar, "test_list", [["one", md5["one"]]])
    monkeypatch.setattr(
        cifar, "meta", {"filename": "meta", "key": "label_names", "md5": md5["meta"]}
    )
    for kind in (SVHN, CIFAR10):
        data = kind(name="it", root=str(tmp_path), validation=0)
        assert torch.equal(data.split("train").images, images)
        assert data.split("test").labels.tolist() == labels
    (tmp_path / "batches" / "one").write_bytes(b"x")
    with pytest.raises(UserError, match=r"truncated.*: \S*/batches/one; delete"):
        CIFAR10(name="it", root=str(tmp_path)).setup()
