"""Read a checkpoint file without running anything that is in it."""

import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from advprune.errors import UserError
from advprune.models.checkpoints.inert_objects import STAND_INS

# What torch.load raises on bytes that are no checkpoint, found by feeding it truncated and altered
# files.
UNREADABLE = (
    *(pickle.UnpicklingError, EOFError, struct.error, RuntimeError, OSError, MemoryError),
    *(
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        OverflowError,
        zipfile.BadZipFile,
    ),
)
#: How many times larger than the file its content may be; torch itself compresses nothing.
INFLATED = 20
CONVERT = (
    "convert it in the code that wrote it, with "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
)


def payload(path: Path) -> Any:
    """Return the content of a checkpoint file as it is stored.

    Raises:
        UserError: if there is no such file, it is no checkpoint, or it would need code to be run.
    """
    if not path.is_file():
        raise UserError(
            f"there is no file {path}: give the path of a .safetensors, .pt, .pth, .th or .ckpt "
            "file"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_inflated(path)
        with torch.serialization.safe_globals(STAND_INS), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of pickle protocols and TorchScript, to people who can change neither
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *UNREADABLE) as error:
        raise UserError(
            f"{path} could not be read as weights, and nothing in it was run ({_reason(error)}): "
            f"download it again, or, where it can be trusted, {CONVERT}"
        ) from error


def _refuse_inflated(path: Path) -> None:
    """Check that an archive's content would not fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = sum(entry.file_size for entry in archive.infolist())
        if inside > INFLATED * path.stat().st_size:
            raise ValueError(f"an archive of {path.stat().st_size} bytes that unpacks to {inside}")


def _reason(error: BaseException) -> str:
    """Return torch's reason without its advice to load the file unsafely."""
    text = " ".join(str(error).split())
    for advice in ("from a trusted source. ", "WeightsUnpickler error: "):
        text = text.rpartition(advice)[2]
    return f"{type(error).__name__}: {text.partition('. ')[0][:120]}"
