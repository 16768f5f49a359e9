"""Published corrupted images from files: CIFAR-10-C, CIFAR-100-C and sets of their layout.

From Hendrycks and Dietterich 2019, https://arxiv.org/abs/1903.12261.
``NAME.npy`` is uint8 (5 * M, H, W, C): the M test images in order at severity 1, then at 2, and so
on; ``labels.npy`` likewise.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advprune.attacks.corruptions import ALL, MAIN, Severity, check, worst_corrupted
from advprune.errors import UserError


def published_corruptions(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    root: str,
    names: list[str] | None = None,
    severities: list[Severity],
    positions: Tensor,
    verdicts: dict[str, Tensor] | None = None,
) -> Tensor:
    """Try every published corruption of each image.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); evaluated in eval mode and restored
            afterwards.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64; they must equal those of the files.
        root: the folder of the files.
        names: kinds of corruption; None for the 15 of the benchmark, without the 4 extra ones.
        severities: severities to try, each 1 to 5.
        positions: places of the images in their test set (N,).
        verdicts: a dict to which ``"name.severity" -> flags`` is added; flags (N,) bool say which
            images are right under that corruption.

    Returns:
        x_adv (N, C, H, W): per image the first corruption that fooled the model, or the last one.

    Raises:
        UserError: naming the file that is missing or damaged, or whose images are not these.
    """
    names = list(MAIN) if names is None else names
    check(names, severities, known=list(ALL))
    rows = positions.cpu().numpy()
    labels = load(f"{root}/labels.npy")
    corrupted = (
        (name, severity, _images(Path(root) / f"{name}.npy", labels, severity, rows, x, y))
        for name in names
        for severity in severities
    )
    return worst_corrupted(model, x, y, corrupted, verdicts)


def _images(
    path: Path,
    labels: NDArray[np.uint8],
    severity: int,
    positions: NDArray[np.int64],
    x: Tensor,
    y: Tensor,
) -> Tensor:
    """Read the images at ``positions`` of one severity, as the corrupted versions of ``x``."""
    images = load(str(path))
    shape = (x.shape[2], x.shape[3], x.shape[1])
    if (
        images.dtype != np.uint8
        or images.shape[1:] != shape
        or len(images) != len(labels)
        or len(labels) % 5
    ):
        raise UserError(
            f"{path} holds {images.dtype} {images.shape}, and labels.npy {len(labels)} labels; "
            f"these images need uint8 (5 * test images, {', '.join(map(str, shape))}): "
            "give the folder of the set that belongs to this dataset"
        )
    rows = (severity - 1) * (len(labels) // 5) + positions
    if positions.max(initial=0) >= len(labels) // 5 or not np.array_equal(
        labels[rows], y.cpu().numpy()
    ):
        raise UserError(
            f"{path.parent}/labels.npy has other labels than the test images: "
            "it belongs to another test set"
        )
    selected = torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2)))
    return selected.to(x.device).to(x.dtype).div_(255)


@cache
def load(path: str) -> NDArray[np.uint8]:
    """Open an array on disk without reading all of it, and without unpickling.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(
            f"there is no file {path}; give attack.root=FOLDER, the one with labels.npy in it"
        ) from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} is damaged or no .npy file ({error}); copy or download it again"
        ) from None
