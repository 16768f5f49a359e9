"""Compute a stage's key: a hash of what determines its result, and of nothing else.

What only says where it runs never enters. Of what is called, the arguments are in, with the
defaults of its signature (``store/signatures.py``); an option at its neutral value (null) is
dropped, so that a new option leaves old keys valid, and so is one that nothing looks at (``IDLE``).
Numbers are compared as numbers (``8/255`` is 0.0313…, 6 is 6.0, a swept 0.9600000000000001 is 0.96:
``ranges.number``). A change of code that changes results raises the stage's number in ``RECIPES``,
which is part of the key.
"""

import hashlib
import json
import re
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

from advprune.ranges import fraction, number

RECIPES = {
    "dense": 1,
    "scores": 1,
    "pruned": 3,
    "finetuned": 1,
    "quantized": 2,
    "evaluated": 2,
    "examples": 2,
}
#: Options of a data set that say where it lies and how it is read; ``content_id`` and its like say
#: what it is.
WHERE = frozenset(
    {
        "root",
        "cache",
        "workers",
        "download",
        "weights",
        "content",
        "extra",
        "test",
        "files",
        "verify",
    }
)
#: Options that name a file or a folder whose content decides a result.
FILES = frozenset({"content", "files", "extra", "test", "root", "weights"})
#: What a data set suggests to other nodes; they hold the resolved value themselves.
SUGGESTED = frozenset(
    {"eps", "attack_steps", "epochs", "batch_size", "learning_rate", "mean", "std"}
)
#: What shapes training only; the test images are the same without it.
TRAINING_ONLY = frozenset(
    {"augment", "extra_id", "extra_share", "train_id", "train_images", "validation"}
)
#: What says which images are tested, and no more.
TESTING_ONLY = frozenset({"test_id"})
_DECIMAL = (
    r"\s*[-+]?(\d{1,12}(\.\d*)?|\.\d+)(e[-+]?\d{1,2})?\s*"  # no number of more digits is a checksum
)
_NUMBER = re.compile(f"{_DECIMAL}(/{_DECIMAL})?", re.IGNORECASE)
#: Options that change nothing beside what else their node says, or that say what null says:
#: {option: is it idle here?}.
IDLE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "momentum": lambda node: node.get("optimizer") == "adam",
    "nesterov": lambda node: node.get("optimizer") == "adam" or node["nesterov"] is False,
    "start_noise": lambda node: node.get("start", "gaussian") != "gaussian",
    # of the attack that validation images are measured under
    "steps": lambda node: node.get("metric") == "clean_acc",
    # of AutoAttack's own engine
    "precision": lambda node: TARGET in node and node.get("engine") != "fast",
    "beta": lambda node: node.get("form") in ("gaussian", "smoothadv"),
    "entropy": lambda node: node.get("form", "consistency") != "consistency",
    # that calibrate a quantizer's static ranges
    "images": lambda node: node.get("ranges") == "dynamic",
    "learning_rate": lambda node: "ranges" in node and not node.get("epochs"),
    "epochs_per_round": lambda node: (
        node.get("schedule") == "one_shot" or node.get("process") is not None
    ),
    # which gives each weight the same chance
    "scope": lambda node: node.get("select") == "bernoulli",
    "start": lambda node: node["start"] == "dense",
    "remove": lambda node: node["remove"] == "smallest",
    "biases": lambda node: node["biases"] is False,
    "classifier": lambda node: node["classifier"] is True,
    "perturb": lambda node: node["perturb"].get("what") is None,
    "round_to": lambda node: node["round_to"] == 1,
    "floor": lambda node: node["floor"] == {"filters": 1, "blocks": 2}.get(str(node.get("unit"))),
}
#: The largest whole number up to which floats have all of them; a larger seed stays one.
EXACT = 2**53
LENGTH = 16
TARGET = "_target_"
#: Options as YAML has them: plain values, nested.
Node: TypeAlias = dict[str, Any]


def canonical(value: object) -> Any:
    """Return ``value`` without nulls and idle options, each number in its one spelling.

    Nulls of what is called stay: where a null changes nothing, ``signatures.bound`` has left it
    out.
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in sorted(value.items()) if TARGET in value or v is not None}
        return {
            str(k): canonical(v)
            for k, v in kept.items()
            if v is None or not (k in IDLE and IDLE[k](value))
        }
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, Real):
        return value if isinstance(value, int) and abs(value) > EXACT else number(float(value))
    numeric = isinstance(value, str) and _NUMBER.fullmatch(value)
    return number(fraction(numeric.string)) if numeric else value


def dataset_identity(dataset: Node, *, training: bool) -> dict[str, Any]:
    """Return the options of a data set that decide which pixels a stage uses.

    Args:
        dataset: all options of the data set.
        training: whether the stage trains; else only the test images count.
    """
    dropped = WHERE | SUGGESTED | (TESTING_ONLY if training else TRAINING_ONLY)
    return {k: v for k, v in dataset.items() if k not in dropped}


def identity(kind: str, options: Node) -> Any:
    """Return the canonical options of a stage: those that determine its result."""
    # their checksum is beside them
    kept = {name: value for name, value in options.items() if name != "weights"}
    if "attack" in kept:
        kept["attack"] = without(kept["attack"], "root")  # its content_id is beside it
    if "dataset" in kept:
        kept["dataset"] = dataset_identity(
            kept["dataset"], training=kind not in ("evaluated", "examples")
        )
    return canonical(kept)


def reads_files(node: object) -> bool:
    """Return whether options name files of the user's, at any depth."""
    if isinstance(node, list):
        return any(map(reads_files, node))
    if not isinstance(node, dict):
        return False
    return any(value is not None for name, value in node.items() if name in FILES) or any(
        map(reads_files, node.values())
    )


def without(node: object, name: str) -> Any:
    """Return the node without the options of this name, at any depth."""
    if isinstance(node, list):
        return [without(inner, name) for inner in node]
    if isinstance(node, dict):
        return {key: without(inner, name) for key, inner in node.items() if key != name}
    return node


def key(kind: str, options: Node, parent: str | None) -> str:
    """Return the key of a stage, 16 hexadecimal digits.

    Args:
        kind: of the stage, a name in ``RECIPES``.
        options: resolved.
        parent: key of the stage that it is made from.
    """
    described = {
        "stage": kind,
        "recipe": RECIPES[kind],
        "parent": parent,
        "options": identity(kind, options),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:LENGTH]
