"""From resolved options to the stages they ask for, each with its key: no torch, so that the store is asked at once."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from advprune.datasets.listing import class_names, fingerprint
from advprune.errors import UserError
from advprune.stages.keys import key

#: What the training phases share.
CONTEXT = ("dataset", "objective", "threat", "select")


@dataclass(frozen=True)
class Stage:
    """One cacheable step: its kind, the resolved options that decide its result, and what it is made from."""

    kind: str
    options: dict[str, Any]
    parent: "Stage | None" = None

    @cached_property
    def key(self) -> str:
        """See ``keys.py``."""
        return key(self.kind, self.options, self.parent.key if self.parent else None)


@dataclass(frozen=True)
class Plan:
    """What one job needs. ``final`` is what is attacked, ``dense`` its unpruned parent (the same for ``train.py``)."""

    dense: Stage
    final: Stage
    evaluated_dense: Stage
    evaluated: Stage

    def stages(self) -> list[Stage]:
        """All stages in the order they are made, each once."""
        chain = []
        for last in (self.evaluated_dense, self.evaluated):
            stage: Stage | None = last
            line = []
            while stage is not None:
                line.append(stage)
                stage = stage.parent
            chain += line[::-1]
        return list({stage.key: stage for stage in chain}.values())


def _digest(path: str) -> str:
    """SHA-256 of a file: weights are known by what is in them, not by where they lie."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights cannot be read from {path}: {error.strerror}; give the path of a file") from None


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
    return options | {"dataset": dataset}


def of_phase(objective: dict[str, Any], phase: str | None) -> dict[str, Any]:
    """The objective as a phase has it: with what ``objective.phases.<phase>`` changes; None is dense training."""
    changes = (objective.get("phases") or {}).get(phase) or {}
    return {name: value for name, value in objective.items() if name != "phases"} | changes


def _dense(options: dict[str, Any], weights: str | None) -> Stage:
    model = {"model": network_options(options)}
    if weights is not None:
        return Stage("dense", model | {"weights": weights, "sha256": _digest(weights)})
    context = {name: options[name] for name in CONTEXT} | {"objective": of_phase(options["objective"], None)}
    return Stage("dense", model | context | {"training": options["training"], "seed": options["seed"]})


def _evaluated(options: dict[str, Any], parent: Stage) -> Stage:
    own = {name: options[name] for name in ("dataset", "attack", "threat", "seed")}
    return Stage("evaluated", own, parent)


def plan_dense(options: dict[str, Any], *, weights: str | None = None) -> Plan:
    """A dense network, trained or read from ``weights``, and its evaluation."""
    options = with_content(options)
    dense = _dense(options, weights)
    evaluated = _evaluated(options, dense)
    return Plan(dense, dense, evaluated, evaluated)


def _phase(options: dict[str, Any], pruner: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a pruner itself trains by, if it does: a learned one, or one that prunes in rounds."""
    if pruner["search"]:
        return {"search": options["search"]}
    return {"between": options["finetune"]} if pruner["schedule"] != "one_shot" else {}


def plan_pruned(options: dict[str, Any]) -> Plan:
    """dense → pruned → fine-tuned → attacked, and the dense parent attacked beside it."""
    options = with_content(options)
    dense = _dense(options, options["dense"])
    context = {name: options[name] for name in (*CONTEXT, "seed")}
    pruner = {name: value for name, value in options["pruner"].items() if name != "recovery"}
    own = _phase(options, pruner) | {"pruner": pruner, "ratio": options["ratio"]}
    phase = "search" if pruner["search"] else "finetune"
    pruned = Stage("pruned", context | own | {"objective": of_phase(options["objective"], phase)}, dense)
    recovery = options["pruner"]["recovery"]
    context["objective"] = of_phase(options["objective"], "finetune" if recovery == "finetune" else None)
    recipe = options["finetune"] if recovery == "finetune" else options["training"]
    tuned = Stage("finetuned", context | {"recovery": recovery, "recipe": recipe}, pruned)
    return Plan(dense, tuned, _evaluated(options, dense), _evaluated(options, tuned))
