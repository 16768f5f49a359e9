"""Compare a set's files with the published MD5s, before anything is loaded: no torch."""

import struct
import zlib
from pathlib import Path

from advprune.datasets.manifest import Checksums, combined

ARCHIVE = ".gz"


def changed_files(root: str | Path, files: dict[str, str], sums: Checksums) -> str | None:
    """Return a checksum of all files if one is not as published, else None.

    None, too, while files are still to be downloaded.

    Args:
        root: folder of the files.
        files: {path under ``root``: MD5 of the published file}. A path that ends in ``.gz`` stands
            for the file that was unpacked from it: of that one no MD5 was published, but it must be
            what the archive beside it holds.
        sums: of MD5.

    Raises:
        UserError: if a file cannot be read.
    """
    folder = Path(root).expanduser()
    read = {name.removesuffix(ARCHIVE): name for name in files}
    if not all((folder / name).is_file() for name in read):
        return None
    checksums = sums.of(folder, list(read))
    if all(
        _published(folder, name, md5, files, sums)
        for name, md5 in zip(read.values(), checksums, strict=True)
    ):
        return None
    return combined([Path(name).name for name in read], checksums)


def _published(folder: Path, name: str, md5: str, files: dict[str, str], sums: Checksums) -> bool:
    if not name.endswith(ARCHIVE):
        return md5 == files[name]
    archive = folder / name
    if not archive.is_file() or sums.of(folder, [name])[0] != files[name]:
        return False
    return _holds(archive, folder / name.removesuffix(ARCHIVE))


def _holds(archive: Path, unpacked: Path) -> bool:
    """Return whether a gzip archive ends with the CRC-32 and the size of this file."""
    with archive.open("rb") as file:
        file.seek(-8, 2)
        crc, size = struct.unpack("<II", file.read(8))
    content = unpacked.read_bytes()
    return (zlib.crc32(content), len(content) & 0xFFFFFFFF) == (crc, size)
