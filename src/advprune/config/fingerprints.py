"""Add to the options what the user's files hold, by checksum, as a path decides no result.

It imports no torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from advprune.datasets.listing import class_names, test_folder
from advprune.datasets.manifest import Checksums, checksum
from advprune.datasets.published_checksums import changed_files
from advprune.datasets.tree_hash import arrays_fingerprint, fingerprint
from advprune.errors import UserError
from advprune.store.keys import Node

#: Files may change between grids, so the cache lives as long as one look at a grid.
_CACHE: ContextVar[dict[tuple[str, ...], Any] | None] = ContextVar("cache", default=None)
#: In the store: the checksums of the user's data, see ``datasets/manifest.py``.
MANIFESTS = "manifests"


@contextmanager
def fingerprint_cache() -> Iterator[None]:
    """Inside, read each of the user's files and folders once, however many jobs ask for it."""
    token = _CACHE.set({})
    try:
        yield
    finally:
        _CACHE.reset(token)


def _cached(key: tuple[str, ...], look: Callable[..., Any], *arguments: Any) -> Any:
    cache = _CACHE.get()
    if cache is None:
        return look(*arguments)
    if key not in cache:
        cache[key] = look(*arguments)
    return cache[key]


def manifests(store: str | Path) -> Path:
    """Return the folder of a store's manifests."""
    return Path(store) / MANIFESTS


def weights_identity(path: str) -> tuple[str, str | None]:
    """Return the checksums of a file of weights and of the ``structure.json`` beside it, if any.

    Raises:
        UserError: if it cannot be read.
    """
    beside, structure = Path(path).with_name("structure.json"), None
    if beside.is_file():
        structure = _cached(("file", str(beside)), checksum, beside)
    if not Path(path).is_file():
        raise UserError(
            f"weights cannot be read from {path}: there is no such file; give the path of a file"
        )
    return _cached(("file", path), checksum, Path(path)), structure


def with_fingerprints(options: Node) -> dict[str, Any]:
    """Return the options with the checksums of the user's own data in them.

    Of a folder of images the classes are counted, too.
    """
    folder, whole = manifests(options["store"]), bool(options["dataset"].get("verify"))
    dataset = options["dataset"] | _data(options["dataset"], folder, whole=whole)
    if dataset.get("content") is not None and dataset["num_classes"] is None:
        dataset["num_classes"] = len(
            _cached(("classes", dataset["content"]), class_names, dataset["content"])
        )
    return options | {"dataset": dataset, "attack": _attack(options["attack"], folder, whole=whole)}


def refuse_changed(options: Node, store: Path) -> None:
    """Check that what a stage has just read is what its key was made from.

    Args:
        options: of the stage, with what ``with_fingerprints`` and ``weights_identity`` added.
        store: the folder of the store.

    Raises:
        UserError: naming the option whose data have changed.
    """
    folder, then, now = manifests(store), dict[str, Any](), dict[str, Any]()
    if "dataset" in options:
        dataset = options["dataset"]
        then |= {f"dataset.{name}": dataset.get(name) for name in IDENTITIES}
        now |= {
            f"dataset.{name}": value for name, value in _data(dataset, folder, whole=False).items()
        }
    if "attack" in options:
        then["attack.content_id"] = options["attack"]
        now["attack.content_id"] = _attack(options["attack"], folder)
    if "weights" in options:
        names = ("sha256", "structure_sha256")
        then |= {name: options.get(name) for name in names}
        now |= dict(zip(names, weights_identity(options["weights"]), strict=True))
    changed = [name for name in then if then[name] != now.get(name)]
    if changed:
        raise UserError(
            f"{TOLD[changed[0].rpartition('.')[2]]} changed while this job was reading it, so its "
            "result would be of two contents: nothing was marked as finished; give the same "
            "command again once the files stay as they are"
        )


#: What ``_data`` may say of a data set, and how a user calls what it is of.
IDENTITIES = ("content_id", "train_id", "test_id", "extra_id")
TOLD = {
    "content_id": "a file that the data set or the attack is read from",
    "train_id": "a file of the training images",
    "test_id": "a file of the test images",
    "extra_id": "dataset.extra",
    "sha256": "the file of weights",
    "structure_sha256": "the structure.json beside the weights",
}


def _data(dataset: Node, folder: Path, *, whole: bool) -> dict[str, Any]:
    """Return what a data set is by its files, training and test images apart where they are.

    ``dataset.content`` is the folder or file to look into, of data sets that are the user's;
    ``dataset.files`` names, under ``dataset.root``, those of a published set.
    """
    sums, identities = Checksums(folder, whole=whole), dict[str, Any]()
    content, files = dataset.get("content"), dataset.get("files") or {}
    if content is not None and Path(content).expanduser().is_file():
        identities["content_id"] = _one(content, sums)
    elif content is not None:
        class_names(content)  # first, as the clearer message for a wrong path
        for name, split in (("train_id", "train"), ("test_id", test_folder(content))):
            identities[name] = _cached(("tree", content, split), fingerprint, content, split, sums)
    md5 = Checksums(folder, whole=whole, algorithm="md5")  # which is what was published
    for part, names in files.items():
        changed = _cached((dataset["root"], *names), changed_files, dataset["root"], names, md5)
        identities |= {f"{part}_id": changed} if changed else {}
    if dataset.get("extra") is not None:
        identities["extra_id"] = _one(dataset["extra"], sums)
    if dataset.get("test") is not None:
        identities["test_id"] = _other_test(dataset["test"], sums)
    return identities


def _one(path: str, sums: Checksums) -> str:
    """Return the checksum of one file of the user's, which may be large."""
    whole = Path(path).expanduser()
    return _cached(("file", path), sums.of, whole.parent, [whole.name])[0]


def _other_test(path: str, sums: Checksums) -> list[str]:
    """Return the checksums of ``X_data.npy`` and of the labels beside it."""
    images = Path(path).expanduser()
    if not images.is_file():
        raise UserError(f"there is no file {path}; give dataset.test=PATH of X_data.npy, or null")
    labels = images.with_name(images.name.replace("data", "labels"))
    return [_one(str(images), sums), *([_one(str(labels), sums)] if labels.is_file() else [])]


def _attack(node: object, folder: Path, *, whole: bool = False) -> Any:
    """Return the attack's options with the content of each folder ``root`` beside it."""
    if isinstance(node, list):
        return [_attack(inner, folder, whole=whole) for inner in node]
    if not isinstance(node, dict):
        return node
    described = {name: _attack(inner, folder, whole=whole) for name, inner in node.items()}
    root = node.get("root")
    if root is None:
        return described
    fingerprint = _cached(
        ("arrays", root), arrays_fingerprint, root, Checksums(folder, whole=whole)
    )
    return described | {"content_id": fingerprint}
