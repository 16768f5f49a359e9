"""Whatever decides a number is known by its content: changed under its path, it has another key, or is an error.

Each change keeps the path, the size and the time of the last change, as far as a program can.
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_datasets import config
from test_keys import OPTIONS

from advprune.config.fingerprints import refuse_changed, with_fingerprints
from advprune.config.options import options_of
from advprune.datasets import manifest
from advprune.datasets.arrays import load_array, load_arrays
from advprune.datasets.decode_cache import decode_cached
from advprune.datasets.manifest import Checksums
from advprune.errors import UserError
from advprune.pipeline.plan import plan_dense

Options = dict[str, Any]


def rewritten(path: Path, content: bytes) -> None:
    """Other bytes in the place of the old ones, without a trace in size and time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path: Path) -> None:
    """One byte far behind whatever a header has."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    rewritten(path, bytes(content))


def other_test(folder: Path) -> tuple[Options, list[Path]]:
    np.save(folder / "X_data.npy", np.zeros((4, 8, 8, 1), np.uint8))
    np.save(folder / "X_labels.npy", np.zeros(4, np.int64))
    options = copy.deepcopy(OPTIONS)
    options["dataset"]["test"] = str(folder / "X_data.npy")
    return options, [folder / "X_data.npy", folder / "X_labels.npy"]


def extra(folder: Path) -> tuple[Options, list[Path]]:
    np.savez(
        folder / "extra.npz",
        images=np.zeros((40, 8, 8, 1), np.uint8),
        labels=np.zeros(40, np.int64),
    )
    options = copy.deepcopy(OPTIONS)
    options["dataset"]["extra"] = str(folder / "extra.npz")
    return options, [folder / "extra.npz"]


def tree(folder: Path) -> tuple[Options, list[Path]]:
    images = [
        folder / split / name / f"{i}.png"
        for split in ("train", "test")
        for name in "ab"
        for i in range(20)
    ]
    for number, path in enumerate(images):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(path)
    options = copy.deepcopy(OPTIONS)
    options["dataset"] |= {"content": str(folder), "root": str(folder)}
    return options, [images[1], images[19], images[41], images[79]]  # not the first of a class


def one_file(folder: Path) -> tuple[Options, list[Path]]:
    (folder / "set.npz").write_bytes(bytes(40_000))
    options = copy.deepcopy(OPTIONS)
    options["dataset"]["content"] = str(folder / "set.npz")
    return options, [folder / "set.npz"]


def published(name: str, folder: Path) -> tuple[Options, list[Path]]:
    dataset = config(name)
    names = [file.removesuffix(".gz") for part in dataset["files"].values() for file in part]
    for file in names:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(bytes(1000))
    options = copy.deepcopy(OPTIONS)
    options["dataset"] |= {"files": dataset["files"], "root": str(folder)}
    return options, [folder / file for file in names]


def corruptions(folder: Path, *path: str) -> tuple[Options, list[Path]]:
    for name in ("fog", "labels"):
        np.save(folder / f"{name}.npy", np.zeros(40_000, np.uint8))
    options = copy.deepcopy(OPTIONS)
    node = options["attack"]
    for name in path:
        node = node.setdefault(name, {})
    node["root"] = str(folder)
    return options, [folder / "fog.npy", folder / "labels.npy"]


KINDS: dict[str, Callable[[Path], tuple[Options, list[Path]]]] = {
    "dataset.test": other_test,
    "dataset.extra": extra,
    "image_folder": tree,
    "a data set in one file": one_file,
    "published corruptions": corruptions,
    "corruptions within": lambda folder: corruptions(folder, "attacks", "fog"),
    **{
        name: lambda folder, name=name: published(name, folder)  # type: ignore[misc]
        for name in ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
    },
}


def keys(options: Options) -> tuple[str, str]:
    plan = plan_dense(options_of(with_fingerprints(options)))
    return plan.dense.key, plan.evaluated.key


@pytest.mark.parametrize("kind", KINDS)
def test_changed_content_has_another_key(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    options, files = KINDS[kind](tmp_path / "data")
    options["store"] = str(tmp_path / "store")
    seen = [keys(options)]
    assert keys(options) == seen[0]
    for path in files:
        plan = plan_dense(options_of(with_fingerprints(options)))
        flip(path)
        with pytest.raises(
            UserError, match="nothing was marked as finished"
        ):  # had it been changed meanwhile
            [refuse_changed(stage.record, Path(options["store"])) for stage in plan.stages]
        seen.append(keys(options))
        flip(path)
        assert keys(options) == seen[0]
    evaluated = [key for _, key in seen]
    assert len(set(evaluated)) == len(evaluated)


def test_test_images_do_not_move_what_is_trained(tmp_path: Path) -> None:
    options, files = tree(tmp_path)
    options["store"] = str(tmp_path / "store")
    dense, evaluated = keys(options)
    flip(files[-1])
    assert keys(options)[0] == dense
    assert keys(options)[1] != evaluated


@pytest.mark.parametrize("file", ["a.safetensors", "structure.json"])
def test_weights_changed_after_they_were_hashed_are_refused(file: str, tmp_path: Path) -> None:
    for name in ("a.safetensors", "structure.json"):
        (tmp_path / name).write_bytes(bytes(100))
    places = {"store": str(tmp_path / "store"), "dense": str(tmp_path / "a.safetensors")}
    plan = plan_dense(options_of(with_fingerprints(OPTIONS | places)))
    refuse_changed(plan.dense.record, tmp_path / "store")
    flip(tmp_path / file)
    with pytest.raises(
        UserError, match="beside the weights" if file == "structure.json" else "file of weights"
    ):
        refuse_changed(plan.dense.record, tmp_path / "store")


def test_the_published_files_have_the_key_of_a_set_that_is_still_to_be_downloaded(
    tmp_path: Path, shared: Path
) -> None:
    import gzip

    dataset = config("mnist")
    options = copy.deepcopy(OPTIONS)
    options["dataset"] |= {"files": dataset["files"], "root": str(tmp_path)}
    options["store"] = str(tmp_path / "store")
    before = keys(options)
    names = [name for part in dataset["files"].values() for name in part]
    (tmp_path / names[0]).parent.mkdir(parents=True)
    for name in names:
        raw = gzip.decompress((shared / "data" / "mnist" / f"{Path(name).name}.gz").read_bytes())
        (tmp_path / name).write_bytes(raw)
    assert keys(options) == before
    flip(tmp_path / names[3])
    assert keys(options)[1] != before[1]
    assert keys(options)[0] == before[0]


def test_a_manifest_saves_reading_and_is_not_believed_where_anything_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    checked = manifest._checked
    monkeypatch.setattr(manifest, "MANY", 3)
    monkeypatch.setattr(manifest, "TICK", -1)
    monkeypatch.setattr(
        manifest, "_checked", lambda path, how: read.append(path.name) or checked(path, how)
    )
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).write_text(name)
    kept = tmp_path / "manifests"

    def look(**options: Any) -> tuple[list[str], list[str]]:
        read.clear()
        return Checksums(kept, **options).of(tmp_path, names), sorted(read)

    first, reading = look()
    assert reading == names
    assert look() == (first, [])
    assert look(whole=True) == (first, names)
    flip(tmp_path / "b")
    changed, reading = look()
    assert (reading, changed[0], changed[2]) == (["b"], first[0], first[2])
    assert changed[1] != first[1]
    (file,) = kept.iterdir()
    flip(file)
    assert look() == (changed, names)
    monkeypatch.setattr(manifest, "TICK", 10**15)  # all of them changed just now
    kept = tmp_path / "fresh"
    look()
    assert look() == (changed, names)


def test_a_poisoned_cache_is_decoded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "a.png")
    options: Any = {"channels": 1, "image_size": 8, "workers": 1, "cache": str(tmp_path / "cache")}

    def look() -> list[int]:
        return np.unique(decode_cached([str(tmp_path / "a.png")], **options)).tolist()

    assert look() == [7]
    (cached,) = (tmp_path / "cache").glob("*.npy")
    flip(cached)
    assert look() == [7]
    assert f"{cached} is damaged" in caplog.text
    cached.with_suffix(".sha256").unlink()
    assert look() == [7]
    caplog.clear()
    assert look() == [7]
    assert not caplog.text
    Image.fromarray(np.full((8, 8), 8, np.uint8)).save(tmp_path / "b.png")
    rewritten(tmp_path / "a.png", (tmp_path / "b.png").read_bytes())
    assert look() == [8]


def test_an_array_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    import io
    import zipfile

    header = {"descr": "|u1", "fortran_order": False, "shape": (64 << 30,)}
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    (tmp_path / "a.npy").write_bytes(content.getvalue() + bytes(8))
    with pytest.raises(ValueError, match="68719476736 bytes, and 8 follow"):
        load_array(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", content.getvalue() + bytes(8))
    with pytest.raises(ValueError, match="it is not whole"):
        load_arrays(tmp_path / "a.npz", ["images"])
    with pytest.raises(KeyError):
        load_arrays(tmp_path / "a.npz", ["labels"])
    np.savez_compressed(tmp_path / "b.npz", images=np.arange(6).reshape(2, 3).T)
    assert load_arrays(tmp_path / "b.npz", ["images"])[0].tolist() == [[0, 3], [1, 4], [2, 5]]
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        load_array(tmp_path / "o.npy")
