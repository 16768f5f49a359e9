"""Make the small networks that AutoAttack's two engines are compared on, in a minute each.

The robust ones of the digits are those of the package's zoo; some of the images that are attacked
are of their training. Those of MNIST learn on 5,000 images here, and need its files in
``ADVPRUNE_MNIST``, or in data/mnist of ../shared.
"""

import gzip
import os
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

import advprune
from advprune.attacks.pgd import pgd
from advprune.logits import kl
from advprune.models.hydra_cnn import cnn_small
from advprune.models.small_cnn import small_cnn
from advprune.objectives.natural import natural as plain
from advprune.objectives.trades import trades
from advprune.threat import Linf
from benchmarks import _digits
from benchmarks._digits import BATCH, PIXELS, Data, fitted
from benchmarks._turns import DEVICE
from benchmarks.autoattack import SHARED

#: Radii of training.
DIGITS, MNIST = Linf(0.15), Linf(0.2)
FILES = Path(os.environ.get("ADVPRUNE_MNIST", SHARED / "data" / "mnist"))
TRAINED = 5000
#: Bytes before the first pixel and the first label of MNIST's files.
HEADERS = {"images-idx3": 16, "labels-idx1": 8}


def objective(threat: Linf) -> partial[torch.Tensor]:
    """Return TRADES-7 with random starts."""
    return partial(trades, attack=partial(pgd, threat=threat, steps=7, loss=kl, start="gaussian"))


@cache
def natural() -> nn.Module:
    """Return the default network, trained on clean digits."""
    torch.manual_seed(0)
    return fitted(small_cnn(widths=[24, 48, 48], **PIXELS), partial(plain), *_digits.digits()[0])


@cache
def zoo(name: str) -> nn.Module:
    """Return a robust small_cnn of the package, by the end of its name: dense, hydra-0.9."""
    return advprune.load(f"digits/small_cnn/{name}").eval().requires_grad_(False).to(DEVICE)


@cache
def mnist_dense() -> nn.Module:
    """Return the network of HYDRA's MNIST experiments, trained by TRADES."""
    torch.manual_seed(0)
    pixels = {
        "num_classes": 10,
        "in_channels": 1,
        "image_size": 28,
        "mean": [0.131],
        "std": [0.308],
    }
    return fitted(
        cnn_small(**pixels), objective(MNIST), *mnist("train", TRAINED), rate=0.02, epochs=8
    )


@cache
def mnist_hydra(ratio: float) -> nn.Module:
    """Return the same, pruned by HYDRA and fine-tuned."""
    return pruned(mnist_dense(), ratio, MNIST, mnist("train", TRAINED), (2, 4))


def pruned(
    net: nn.Module, ratio: float, threat: Linf, data: Data, epochs: tuple[int, int]
) -> nn.Module:
    """Return the network pruned by HYDRA with TRADES.

    Args:
        net: dense.
        ratio: share of weights that are removed.
        threat: of training.
        data: images and labels to train on.
        epochs: of the search and of fine-tuning.
    """
    batches = [*zip(*(tensor.split(BATCH) for tensor in data), strict=True)]
    found = advprune.prune(
        net, batches, method="hydra", ratio=ratio, objective="trades", threat=threat, epochs=epochs
    )
    return found.model.eval().requires_grad_(False)


def mnist_images(count: int) -> Data:
    """Return the first test images of MNIST."""
    return mnist("t10k", count)


@cache
def mnist(part: str, count: int) -> Data:
    """Return the first ``count`` images in [0, 1] and labels of ``train`` or ``t10k``."""
    raw = {
        kind: np.frombuffer(
            gzip.decompress((FILES / f"{part}-{kind}-ubyte.gz").read_bytes()), np.uint8, -1, header
        )
        for kind, header in HEADERS.items()
    }
    x = torch.from_numpy(raw["images-idx3"].copy()).view(-1, 1, 28, 28)[:count].float() / 255
    return x.to(DEVICE), torch.from_numpy(raw["labels-idx1"][:count].copy()).long().to(DEVICE)
