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
TRANSFER = "advprune.attacks.transfer.transfer"


@dataclass(frozen=True)
class Stage:
    """One cacheable step: its kind, the resolved options that decide its result, and what it is made from."""

    kind: str
    options: dict[str, Any]
    parent: "Stage | None" = None
    examples: "Stage | None" = None  # that are judged, of a transfer attack

    @cached_property
    def key(self) -> str:
        """See ``keys.py``."""
        made_with = {"examples": self.examples.key} if self.examples else {}
        return key(self.kind, self.options | made_with, self.parent.key if self.parent else None)

    def line(self) -> "list[Stage]":
        """All it is made from, first things first, and itself."""
        before = [stage.line() for stage in (self.parent, self.examples) if stage is not None]
        return [stage for line in before for stage in line] + [self]


@dataclass(frozen=True)
class Plan:
    """What one job needs. ``final`` is what is attacked, ``dense`` its unpruned parent (the same for ``train.py``)."""

    dense: Stage
    final: Stage
    evaluated_dense: Stage
    evaluated: Stage

    def stages(self) -> list[Stage]:
        """All stages in the order they are made, each once."""
        chain = self.evaluated_dense.line() + self.evaluated.line()
        return list({stage.key: stage for stage in chain}.values())


def _digest(path: str) -> str:
    """SHA-256 of a file: weights are known by what is in them, not by where they lie."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"weights cannot be read from {path}: {error.strerror}; give the path of a file") from None


def _model(options: dict[str, Any]) -> dict[str, Any]:
    """The network's options with the pixel constants and sizes of its data set."""
    dataset, model = options["dataset"], dict(options["model"])
    for name in ("mean", "std"):
        model[name] = dataset[name] if model.get(name) is None else model[name]
    return model | {"num_classes": dataset["num_classes"], "in_channels": dataset["channels"],
                    "image_size": dataset["image_size"]}  # fmt: skip


def _with_content(options: dict[str, Any]) -> dict[str, Any]:
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
    model = {"model": _model(options)}
    if weights is not None:
        return Stage("dense", model | {"weights": weights, "sha256": _digest(weights)})
    context = {name: options[name] for name in CONTEXT} | {"objective": of_phase(options["objective"], None)}
    return Stage("dense", model | context | {"training": options["training"], "seed": options["seed"]})


def _evaluated(options: dict[str, Any], parent: Stage, dense: Stage) -> Stage:
    own = {name: options[name] for name in ("dataset", "attack", "threat", "seed")}
    if options["attack"].get("_target_") != TRANSFER:
        return Stage("evaluated", own, parent)
    # the frame's own keys shape the batches, and the batches what is drawn: with them, examples are the white-box ones
    inner = options["attack"]["inner"] | {name: options["attack"][name] for name in ("images", "batch_size")}
    source, seed = _source(options, parent, dense)
    return Stage("evaluated", own, parent, Stage("examples", own | {"attack": inner, "seed": seed}, source))


def _source(options: dict[str, Any], target: Stage, dense: Stage) -> tuple[Stage, int]:
    """The network that a transfer attack's examples are made on, and the seed they are made with.

    The seed is the source's own and not the target's, so that all targets share one set of examples.
    """
    name, model, seed = (options.get(option) for option in ("source", "source_model", "source_seed"))
    own = options["seed"] if seed is None else seed
    if name == "self":
        if model is not None or seed is not None:
            raise UserError("source=self is the network under attack; source_model and source_seed are of another one")
        return target, own
    as_source = options | {"model": model or options["model"], "seed": own}
    if name is not None:
        return _dense(as_source, name), seed or 0
    return (dense if model is None and seed is None else _dense(as_source, None)), own


def plan_dense(options: dict[str, Any], *, weights: str | None = None) -> Plan:
    """A dense network, trained or read from ``weights``, and its evaluation."""
    options = _with_content(options)
    dense = _dense(options, weights)
    evaluated = _evaluated(options, dense, dense)
    return Plan(dense, dense, evaluated, evaluated)


def _phase(options: dict[str, Any], pruner: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a pruner itself trains by, if it does: a learned one, or one that prunes in rounds."""
    if pruner["search"]:
        return {"search": options["search"]}
    return {"between": options["finetune"]} if pruner["schedule"] != "one_shot" else {}


def plan_pruned(options: dict[str, Any]) -> Plan:
    """dense → pruned → fine-tuned → attacked, and the dense parent attacked beside it."""
    options = _with_content(options)
    dense = _dense(options, options["dense"])
    context = {name: options[name] for name in (*CONTEXT, "seed")}
    pruner = {name: value for name, value in options["pruner"].items() if name != "recovery"}
    budget = {name: options.get(name) for name in ("ratio", "compression")}
    own = _phase(options, pruner) | {"pruner": pruner} | budget
    phase = "search" if pruner["search"] else "finetune"
    pruned = Stage("pruned", context | own | {"objective": of_phase(options["objective"], phase)}, dense)
    recovery = options["pruner"]["recovery"]
    context["objective"] = of_phase(options["objective"], "finetune" if recovery == "finetune" else None)
    recipe = options["finetune"] if recovery == "finetune" else options["training"]
    tuned = Stage("finetuned", context | {"recovery": recovery, "recipe": recipe}, pruned)
    return Plan(dense, tuned, _evaluated(options, dense, dense), _evaluated(options, tuned, dense))
