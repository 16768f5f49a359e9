"""Other test images: CIFAR-10.1's layout, and what is said of files that are not it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from advprune.datasets.external_test_set import load_test
from advprune.errors import UserError

SET = {"num_classes": 10, "channels": 3, "image_size": 4}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "v6_data.npy", images)
    np.save(tmp_path / "v6_labels.npy", np.arange(6, dtype=np.int32))
    return tmp_path / "v6_data.npy"


def test_images_and_labels_are_read(data: Path) -> None:
    split = load_test(str(data), **SET)
    assert torch.equal(split.labels, torch.arange(6))
    assert split.images[5, 2, 1, 3].item() == np.load(data)[5, 1, 3, 2]


def test_what_does_not_fit_is_named(data: Path) -> None:
    labels = data.with_name("v6_labels.npy")

    def complaint(path: Path = data, **changed: int) -> str:
        with pytest.raises(UserError) as error:
            load_test(str(path), **(SET | changed))
        return str(error.value)

    wrong = complaint(image_size=8)
    assert "v6_data.npy holds images of shape (6, 4, 4, 3) and type uint8" in wrong
    assert "they must be uint8, 3 x 8 x 8" in wrong
    wrong = complaint(num_classes=5)
    assert "v6_labels.npy holds labels from 0 to 5: they must be 0 to 4" in wrong
    assert "must be named …data.npy" in complaint(labels)
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-3])
    assert "v6_labels.npy is damaged" in complaint()
    labels.unlink()
    assert "there is no file" in complaint()
