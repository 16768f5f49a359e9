"""What options say once the user's files are looked at, and the network that a data set asks for: no torch."""

import hashlib
from pathlib import Path
from typing import Any

from advprune.datasets.listing import arrays_fingerprint, class_names, fingerprint
from advprune.errors import UserError


def digest(path: str) -> str:
    """SHA-256 of a file: weights are known by what is in them, not by where they lie."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights cannot be read from {path}: {error.strerror}; give the path of a file") from None


def weights_identity(path: str) -> dict[str, Any]:
    """What a file of weights is, and the ``structure.json`` beside it, where there is one: together they decide."""
    beside = Path(path).with_name("structure.json")
    structure = digest(str(beside)) if beside.is_file() else None
    return {"weights": path, "sha256": digest(path), "structure_sha256": structure}


def network_options(options: dict[str, Any]) -> dict[str, Any]:
    """The network's options with the pixel constants and sizes of its data set."""
    dataset, model = options["dataset"], dict(options["model"])
    for name in ("mean", "std"):
        model[name] = dataset[name] if model.get(name) is None else model[name]
    return model | {"num_classes": dataset["num_classes"], "in_channels": dataset["channels"],
                    "image_size": dataset["image_size"]}  # fmt: skip


def with_content(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what the user's own image files are, for they decide results and their path does not.

    ``dataset.content`` is the folder or file to look into, given by data sets that are the user's.
    """
    dataset = dict(options["dataset"])
    if dataset.get("content") is not None:
        dataset["content_id"] = fingerprint(dataset["content"])
        dataset["num_classes"] = dataset["num_classes"] or len(class_names(dataset["content"]))
    if dataset.get("extra") is not None:
        dataset["extra_id"] = fingerprint(dataset["extra"])
    if dataset.get("test") is not None:
        if not Path(dataset["test"]).is_file():
            raise UserError(f"there is no file {dataset['test']}; give dataset.test=PATH of X_data.npy, or null")
        dataset["test_id"] = fingerprint(dataset["test"])
    attack = dict(options["attack"])
    if attack.get("root") is not None:
        attack["content_id"] = arrays_fingerprint(attack["root"])
    return options | {"dataset": dataset, "attack": attack}
