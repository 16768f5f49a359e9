"""Say which of a job's options decide the result of each kind of stage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from advprune.config.groups import (
    Attack,
    Dataset,
    Method,
    Network,
    Objective,
    Pruner,
    Quantizer,
    Select,
    plain,
)
from advprune.modules.recipe import Recipe
from advprune.store.keys import Node

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Training:
    """Hold what a phase of training reads.

    Attributes:
        objective: of the phase.
        recipe: of the phase; None of a stage that may train, and does not.
        identity: options of the trainer that decide the weights, see ``Trainer.identity``.
    """

    dataset: Dataset
    objective: Objective
    threat: Method
    select: Select
    seed: int
    recipe: Recipe | None = None
    identity: Node = field(default_factory=dict)

    def data(self, *, batch_size: int, repeats: int = 1) -> Any:
        """Return the data module of the phase; at most ``select.images`` images validate.

        Args:
            batch_size: images a step.
            repeats: how often each batch is trained on in one pass.
        """
        return self.dataset.build(
            seed=self.seed,
            batch_size=batch_size,
            val_images=self.select.images,
            repeats=repeats,
        )

    def validation_attack(self) -> "Callable[[nn.Module, Tensor, Tensor], Tensor] | None":
        """Return the PGD that validation images are measured under; None for clean accuracy."""
        if self.select.metric == "clean_acc":
            return None
        from advprune.attacks.pgd import pgd  # torch is not loaded where options are only read

        steps, ball = self.select.steps, self.threat.build()
        return lambda net, x, y: pgd(net, x, y, threat=ball, steps=steps, rel_step=2.5 / steps)

    def node(self, recipe_name: str = "recipe") -> Node:
        """Return the options as plain values, the recipe under a name that says what it is of."""
        recipe = {} if self.recipe is None else {recipe_name: plain(self.recipe)}
        return {
            "dataset": self.dataset.node,
            "objective": self.objective.node,
            "threat": self.threat.node,
            "select": plain(self.select),
            "seed": self.seed,
            **recipe,
            **self.identity,
        }


@dataclass(frozen=True)
class Weights:
    """Hold the file that a dense network is read from, with its checksums.

    Attributes:
        layout: how it was saved; None: plain weights.
        ratio: the share of weights that the user says it lacks; None: nothing was said.
    """

    path: str
    sha256: str
    structure_sha256: str | None
    layout: str | None = None
    ratio: float | None = None

    @property
    def label(self) -> str:
        """Return the file's name and how it is read, as tables have it."""
        layout = [] if self.layout is None else ["as", self.layout]
        ratio = [] if self.ratio is None else [f"{self.ratio:g}"]
        return " ".join([Path(self.path).name, *layout, *ratio])

    @property
    def node(self) -> Node:
        """Return the options as plain values."""
        return {
            "weights": self.path,
            "sha256": self.sha256,
            "structure_sha256": self.structure_sha256,
            "layout": self.layout,
            "declared_ratio": self.ratio,
        }


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Decide a dense network: trained, or read from a file."""

    model: Network
    training: Training | None = None
    weights: Weights | None = None

    @property
    def node(self) -> Node:
        """Return the options as plain values."""
        trained = {} if self.training is None else self.training.node("training")
        read = {} if self.weights is None else self.weights.node
        return {"model": self.model.node, **trained, **read}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Decide the scores of a network before anything is removed; at whatever ratio that will be."""

    training: Training
    pruner: Pruner

    @property
    def node(self) -> Node:
        """Return the options as plain values: the images, and what scores which network.

        How a ratio is spent on the scores is no part of them.
        """
        read = ("criterion", "start", "unit", "biases", "classifier")
        return {
            "dataset": self.training.dataset.node,
            "seed": self.training.seed,
            "pruner": {name: self.pruner.node[name] for name in read if name in self.pruner.node},
        }


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """Decide a pruned network: the pruner, how much goes, and the training of one that trains."""

    training: Training
    pruner: Pruner
    ratio: float | None
    compression: float | None

    @property
    def node(self) -> Node:
        """Return the options as plain values.

        How the network recovers is the next stage's, if there is one; how its parent was trained is
        in the stage before, and by what and for how long a process trains, in ``training``.
        """
        others = ("recovery", "parent", "objective", "epochs")
        pruner = {name: value for name, value in self.pruner.node.items() if name not in others}
        last = {"recovery": "none"} if self.pruner.recovery == "none" else {}
        return {
            **self.training.node("search" if self.pruner.process else "between"),
            "pruner": pruner | last,
            "ratio": self.ratio,
            "compression": self.compression,
        }


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """Decide a network that recovered from pruning."""

    training: Training
    recovery: Literal["finetune", "retrain", "rewind", "scratch", "none"]

    @property
    def node(self) -> Node:
        """Return the options as plain values."""
        return {**self.training.node(), "recovery": self.recovery}


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Decide a network in 8 bits; ``training`` is set if it is trained on in them."""

    dataset: Dataset
    seed: int
    quantizer: Quantizer
    training: Training | None = None

    @property
    def node(self) -> Node:
        """Return the options as plain values; which variant runs is the evaluation's."""
        quantizer = {name: value for name, value in self.quantizer.node.items() if name != "runs"}
        trained = {} if self.training is None else self.training.node()
        return {
            "dataset": self.dataset.node,
            "seed": self.seed,
            "quantizer": quantizer,
            **trained,
        }


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Decide an evaluation, or the examples of one.

    Attributes:
        threat: within which it attacks.
        runs: the variant of a quantized network that is attacked.
        debug: ``smoke`` if the numbers mean nothing; it keeps them apart from those that do.
    """

    dataset: Dataset
    attack: Attack
    threat: Method
    seed: int
    runs: Literal["fake_quant", "int8"] = "fake_quant"
    debug: Literal["smoke"] | None = None

    @property
    def node(self) -> Node:
        """Return the options as plain values; a radius of the attack's own is in the threat."""
        attack = {
            name: value
            for name, value in self.attack.node.items()
            if name != "eps" or value is None
        }
        return {
            "dataset": self.dataset.node,
            "attack": attack,
            "threat": self.threat.node,
            "seed": self.seed,
            **({} if self.runs == "fake_quant" else {"runs": self.runs}),
            **({} if self.debug is None else {"debug": self.debug}),
        }
