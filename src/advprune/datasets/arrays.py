"""NumPy array files: nothing is unpickled, and a header is checked against the file's size."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Array = NDArray[np.generic]
#: What reading bytes that are no such file raises, besides ValueError.
BROKEN = (EOFError, zipfile.BadZipFile, zlib.error, AttributeError, TypeError, RuntimeError)
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_array(path: Path) -> Array:
    """Read a ``.npy`` file.

    Raises:
        ValueError: if it is none, holds objects, or is not as long as its header says.
        OSError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
            file.seek(0)
            return npy.read_array(file, allow_pickle=False)
    except BROKEN as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def load_arrays(path: Path, names: Sequence[str]) -> list[Array]:
    """Read the named arrays of an ``.npz`` file.

    Args:
        path: of the file.
        names: of the arrays.

    Raises:
        KeyError: if one is not in it.
        ValueError: as ``load_array``; or if an array is larger than this machine's memory.
        OSError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [_member(archive, f"{name}.npy") for name in names]
    except BROKEN as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    size = archive.getinfo(name).file_size
    with archive.open(name) as file:
        _check_header(file, size)
    with archive.open(name) as file:
        return npy.read_array(file, allow_pickle=False)


def _check_header(file: IO[bytes], size: int) -> None:
    """Check, before memory is taken, that the file and this machine's memory hold the array."""
    version = npy.read_magic(file)
    if version not in READERS:
        raise ValueError(
            f"format {version[0]}.{version[1]} of .npy is not read here: save it with numpy.save"
        )
    shape, _, dtype = READERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    wanted: Any = prod(int(n) for n in shape) * dtype.itemsize
    if wanted != size - file.tell():
        raise ValueError(
            f"its header says {dtype} {shape}, {wanted} bytes, and {size - file.tell()} follow: it "
            "is not whole"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > memory:
        raise ValueError(
            f"it holds {wanted / 1e9:.0f} GB, and this machine has {memory / 1e9:.0f} GB of memory"
        )
