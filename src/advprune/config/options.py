"""Turn what Hydra composed into a job's options: resolved, checked, typed, and frozen.

Everything after the command line reads an ``Options``.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from advprune.config.fingerprints import with_fingerprints
from advprune.config.groups import (
    Attack,
    Dataset,
    Method,
    Network,
    Objective,
    Pruner,
    Quantizer,
    Select,
    typed,
)
from advprune.config.smoke import shrink
from advprune.config.user_code import source_checksum
from advprune.config.validate import check_numbers, without_strays
from advprune.distributed.environment import Trainer
from advprune.errors import UserError
from advprune.modules.recipe import Recipe
from advprune.ranges import number
from advprune.store.keys import Node, reads_files

#: Options that name a file or a folder: at the root, and inside any group.
PATHS = frozenset({"store", "dense", "checkpoint", "source"})
INNER_PATHS = frozenset({"root", "content", "cache", "extra", "test", "folder"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold the options of one job.

    Attributes:
        dense: the file that the dense network is read from; None trains it.
        checkpoint: the file of a network that is attacked as it is.
        layout: how that file, or ``dense``, was saved; None: plain weights.
        declared_ratio: the share of weights that the user says the network of ``checkpoint`` lacks.
        source: whose examples a transfer attack uses; None: the dense parent's.
        stage: the key of the network that is attacked, of those that the options make; None: the
            last.
        debug: ``smoke`` if the job is made small, and its numbers mean nothing.
        tags: words for its loggers to filter by.
        node: all options as plain values, for what logs them and for signatures.
    """

    seed: int
    store: Path
    dataset: Dataset
    model: Network
    objective: Objective
    threat: Method
    attack: Attack
    select: Select
    training: Recipe
    search: Recipe
    finetune: Recipe
    trainer: Trainer = field(default_factory=Trainer)
    loggers: tuple[Method, ...] = ()
    quantizer: Quantizer | None = None
    pruner: Pruner | None = None
    ratio: float | None = None
    compression: float | None = None
    dense: str | None = None
    checkpoint: str | None = None
    layout: str | None = None
    declared_ratio: float | None = None
    export: Literal["safetensors", "onnx", "hub"] | None = None
    sizes: bool = False
    source: str | None = None
    source_seed: int | None = None
    stage: str | None = None
    debug: Literal["smoke"] | None = None
    tags: list[str] = field(default_factory=list)
    source_model: Network | None = None
    node: Node = field(default_factory=dict, repr=False)

    @property
    def evaluation_threat(self) -> Method:
        """Return the threat of the evaluation: the run's, within ``attack.eps`` if that is set."""
        eps = self.attack.node.get("eps")
        return self.threat if eps is None else Method(self.threat.node | {"eps": eps})

    @property
    def phases(self) -> tuple[Literal["search", "finetune"] | None, ...]:
        """Return the phases in which the job may train; None is dense training."""
        return (None,) if self.pruner is None else (None, "search", "finetune")

    @property
    def weights(self) -> str | None:
        """Return the file that the network at the root is read from; None trains it."""
        return self.dense if self.checkpoint is None else self.checkpoint

    def of_pruned(self) -> "Options":
        """Return the options of the network that is pruned, trained as ``pruner.parent`` says.

        The dense network of the table stays the one that the other options train.
        """
        parent = None if self.pruner is None else self.pruner.parent
        if parent is None:
            return self
        changed = self
        if parent.objective is not None:
            objective = typed(Objective, parent.objective)
            select = replace(self.select, metric=objective.select, keep=objective.keep)
            changed = replace(self, objective=objective, select=select)
        return replace(
            changed, training=replace(self.training, epochs=parent.epochs or self.training.epochs)
        )

    def of_parent(self, *, model: Network, seed: int, dense: str | None) -> "Options":
        """Return the options of another dense network, such as a transfer attack's source."""
        options = replace(self, checkpoint=None, layout=None, declared_ratio=None)
        return replace(options, model=model, seed=seed, dense=dense)


def load(cfg: DictConfig) -> Options:
    """Return the options that Hydra composed: checked, typed, with checksums of the user's files.

    Raises:
        UserError: naming the option, its value and what is allowed; or a file that cannot be read.
    """
    node = resolve(cfg)
    node["dataset"] = _with_source(node["dataset"])
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    node["attack"] = without_strays(node["attack"], list(words))
    check_numbers(node)
    if node.get("debug") is not None:
        node = shrink(node)
    if reads_files({"dataset": node["dataset"], "attack": node["attack"]}):
        node = with_fingerprints(node)
    return options_of(node)


def options_of(node: Node) -> Options:
    """Return checked plain options as objects."""
    dataset, quantizer, pruner = node["dataset"], node.get("quantizer") or {}, node.get("pruner")
    source_model = node.get("source_model")
    names = (
        "ratio",
        "compression",
        "checkpoint",
        "layout",
        "export",
        "source",
        "source_seed",
        "stage",
        "debug",
    )
    return Options(
        seed=node["seed"],
        store=Path(node["store"]),
        dataset=typed(Dataset, dataset),
        model=_network(node["model"], dataset),
        objective=typed(Objective, node["objective"]),
        threat=Method(node["threat"]),
        attack=typed(Attack, node["attack"]),
        select=typed(Select, node["select"]),
        training=typed(Recipe, node["training"]),
        search=typed(Recipe, node["search"]),
        finetune=typed(Recipe, node["finetune"]),
        trainer=typed(Trainer, node.get("trainer") or {}),
        loggers=tuple(map(Method, (node.get("logger") or {}).values())),
        quantizer=None if quantizer.get("_target_") is None else typed(Quantizer, quantizer),
        pruner=None if pruner is None else typed(Pruner, pruner),
        dense=node.get("dense"),
        declared_ratio=_declared_ratio(node),
        sizes=bool(node.get("sizes")),
        tags=node.get("tags") or [],
        source_model=None if source_model is None else _network(source_model, dataset),
        node=node,
        **{name: node.get(name) for name in names},
    )


def _network(model: Node, dataset: Node) -> Network:
    """Return the network's call with the pixel constants and sizes of its data set."""
    constants = {
        name: model.get(name) or dataset[name] or [0.5] * dataset["channels"]
        for name in ("mean", "std")
    }
    sizes = {
        "num_classes": dataset["num_classes"],
        "in_channels": dataset["channels"],
        "image_size": dataset["image_size"],
    }
    return Network(_with_source(model) | constants | sizes)


def _with_source(node: Node) -> Node:
    """Return the node with the checksum of the file that its target is in, if that is a user's."""
    target = str(node["_target_"])
    if target.startswith("advprune."):
        return node
    checksum = source_checksum(target)
    return node if checksum is None else node | {"source_id": checksum}


def resolve(cfg: DictConfig) -> Node:
    """Return all options with their interpolations filled in; enums as their names.

    Raises:
        UserError: if an interpolation points nowhere.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} is missing: give {error.full_key}=…") from None
    except OmegaConfBaseException as error:
        raise UserError(f"the options do not fit together: {str(error).splitlines()[0]}") from None
    assert isinstance(plain, dict)
    options = _with_resolved_paths({str(key): spelled(value) for key, value in plain.items()})
    return _with_attack_eps(_one_budget(options))


def spelled(value: object) -> Any:
    """Return the options with each float in its one spelling, for computing and hashing alike."""
    if isinstance(value, dict):
        return {key: spelled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [spelled(inner) for inner in value]
    return number(value) if isinstance(value, float) else value


def _with_resolved_paths(options: Node) -> Node:
    """Return the options with paths as they were meant where the command was typed."""

    def resolved(name: str, value: object) -> Any:
        if name in PATHS and (name, value) != ("source", "self"):
            return resolved_path(value)
        if not isinstance(value, dict):
            return value
        inside = ((key, inner, key in INNER_PATHS) for key, inner in value.items())
        return {key: resolved_path(inner) if path else inner for key, inner, path in inside}

    return {name: resolved(name, value) for name, value in options.items()}


def resolved_path(path: object) -> Any:
    """Return a path without ``~``, absolute where Hydra has changed the working folder.

    What is no text is returned unchanged.
    """
    if not isinstance(path, str):
        return path
    home = str(Path(path).expanduser()) if path.startswith("~") else path
    typed_in = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else None
    return str(Path(typed_in, home)) if typed_in and Path(typed_in) != Path.cwd() else home


def _with_attack_eps(options: Node) -> Node:
    """Return the options with ``attack.eps`` in every ball inside the attack.

    Training keeps ``threat.eps``; a ball that the user wrote differently is left as it is.
    """
    eps = (options.get("attack") or {}).get("eps")
    if eps is None:
        return options

    def with_eps(node: object) -> Any:
        if node == options["threat"]:
            return options["threat"] | {"eps": eps}
        if isinstance(node, dict):
            return {name: with_eps(value) for name, value in node.items()}
        return [with_eps(value) for value in node] if isinstance(node, list) else node

    return options | {"attack": with_eps(options["attack"])}


def _one_budget(options: Node) -> Node:
    """Return the options with either ``ratio`` or ``compression``.

    What the command line says comes first, then what a preset sets.

    Raises:
        UserError: if the command line gives both.
    """
    if options.get("compression") is None or options["ratio"] is None:
        return options
    given = _given_options()
    if {"ratio", "compression"} <= given:
        raise UserError(
            f"ratio={options['ratio']:g} and compression={options['compression']:g} are two "
            "answers to one question: give the share removed, or how many times smaller the "
            "network becomes"
        )
    return options | {"compression" if "ratio" in given else "ratio": None}


def _declared_ratio(options: Node) -> float | None:
    """Return the share that a file's network lacks, if the user says it: no default does."""
    declared = options.get("checkpoint") is not None and "ratio" in _given_options()
    return options.get("ratio") if declared else None


def _given_options() -> set[str]:
    """Return the names of the options on the command line."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {override.lstrip("+").partition("=")[0] for override in overrides}
