"""Hold a job's options as typed, frozen objects: what everything after the command line reads."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from advprune.config.fingerprints import with_fingerprints
from advprune.config.groups import (
    Attack,
    Dataset,
    Method,
    Network,
    Node,
    Objective,
    Pruner,
    Quantizer,
    Select,
    typed,
)
from advprune.config.resolve import resolve
from advprune.config.validate import check_numbers
from advprune.distributed.environment import Trainer
from advprune.modules.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold the options of one job.

    Attributes:
        dense: the file that the dense network is read from; None trains it.
        checkpoint: the file of a network that is attacked as it is.
        source: whose examples a transfer attack uses; None: the dense parent's.
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
    logger: Method = field(default_factory=lambda: Method({}))
    quantizer: Quantizer | None = None
    pruner: Pruner | None = None
    ratio: float | None = None
    compression: float | None = None
    dense: str | None = None
    checkpoint: str | None = None
    export: Literal["safetensors", "onnx"] | None = None
    sizes: bool = False
    source: str | None = None
    source_seed: int | None = None
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

    def of_parent(self, *, model: Network, seed: int, dense: str | None) -> "Options":
        """Return the options of another dense network, such as a transfer attack's source."""
        return replace(self, model=model, seed=seed, dense=dense, checkpoint=None)


def load(cfg: DictConfig) -> Options:
    """Return the options that Hydra composed: checked, typed, with checksums of the user's files.

    Raises:
        UserError: naming the option, its value and what is allowed; or a file that cannot be read.
    """
    node = resolve(cfg)
    check_numbers(node)
    return options_of(with_fingerprints(node))


def options_of(node: Node) -> Options:
    """Return checked plain options as objects."""
    dataset, quantizer, pruner = node["dataset"], node.get("quantizer") or {}, node.get("pruner")
    source_model = node.get("source_model")
    names = ("ratio", "compression", "checkpoint", "export", "source", "source_seed")
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
        logger=Method(node.get("logger") or {}),
        quantizer=None if quantizer.get("_target_") is None else typed(Quantizer, quantizer),
        pruner=None if pruner is None else typed(Pruner, pruner),
        dense=node.get("dense"),
        sizes=bool(node.get("sizes")),
        source_model=None if source_model is None else _network(source_model, dataset),
        node=node,
        **{name: node.get(name) for name in names},
    )


def _network(model: Node, dataset: Node) -> Network:
    """Return the network's call with the pixel constants and sizes of its data set."""
    constants = {
        name: dataset[name] if model.get(name) is None else model[name] for name in ("mean", "std")
    }
    sizes = {
        "num_classes": dataset["num_classes"],
        "in_channels": dataset["channels"],
        "image_size": dataset["image_size"],
    }
    return Network(model | constants | sizes)
