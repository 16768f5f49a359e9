"""Declare, typed and frozen, what the harness reads of each config group.

What a method takes besides is declared in its own signature: ``Group.method`` is its call.
"""

import functools
import inspect
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from annotated_types import Ge, Gt, Le
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from advprune.errors import UserError
from advprune.pruners.spending import Spending
from advprune.ranges import (
    PIXEL_UNITS,
    Count,
    Natural,
    Quotient,
    Share,
    Side,
    Weight,
    fraction,
    is_quotient,
    members,
)
from advprune.store.keys import Node, without
from advprune.store.signatures import defaults

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Epochs = Annotated[int, Ge(1), Le(100_000)]


def build(node: Node, **extra: Any) -> Any:
    """Make what a node's ``_target_`` names.

    Args:
        node: of the configuration.
        **extra: further arguments, which need not be plain values.

    Raises:
        UserError: the one that the target raised, without Hydra's wrapping.
    """
    try:
        return instantiate(node, _convert_="all", **extra)  # lists and dicts, not OmegaConf's
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        raise


def takes_any_option(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Return whether a signature has ``**options``, so that no option is strange to it."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


@dataclass(frozen=True)
class Method:
    """Hold a function or class that a YAML names, and the keyword arguments that it gives it."""

    node: Node

    @property
    def target(self) -> str:
        """Return the dotted path of the function or class."""
        return str(self.node["_target_"])

    @property
    def name(self) -> str:
        """Return the name of the function or class."""
        return self.target.rpartition(".")[2]

    def __contains__(self, option: object) -> bool:
        """Return whether the YAML gives this argument."""
        return option in self.node

    def build(self, **extra: Any) -> Any:
        """Make the object, or bind the function's arguments.

        Args:
            **extra: arguments that the harness gives; they need not be plain values.

        Raises:
            UserError: what the target raises.
        """
        return build(self.node, **extra)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Hold a group's options: those that the harness reads as fields, and all of them.

    Attributes:
        node: all options of the group, as they enter a stage's key.
    """

    node: Node = field(default_factory=dict, repr=False)

    @property
    def method(self) -> Method:
        """Return the method's call, without what the harness reads itself."""
        group: type = type(self)
        read = {option.name for option in declared_fields(group)}
        return Method({name: value for name, value in self.node.items() if name not in read})


@dataclass(frozen=True)
class Select:
    """Declare how the kept epoch is chosen."""

    keep: Literal["best", "last"]
    metric: Literal["clean_acc", "robust_acc"]
    images: Count | None
    steps: Count


@dataclass(frozen=True)
class Parent:
    """Declare how a network to be pruned is trained otherwise than the dense one of the table."""

    objective: dict[str, Any] | None = None
    epochs: Epochs | None = None


@dataclass(frozen=True, kw_only=True)
class Pruner(Group, Spending):
    """Declare the options every pruner has; see ``conf/pruner/base.yaml``."""

    criterion: Method | None
    process: Method | None = None
    start: Literal["dense", "init", "early"] = "dense"
    parent: Parent | None = None
    objective: dict[str, Any] | None = None
    epochs: Epochs | None = None
    epochs_per_round: Annotated[int, Ge(0), Le(100_000)]
    recovery: Literal["finetune", "retrain", "rewind", "scratch", "none"]
    score: str | None

    @property
    def trains_between(self) -> bool:
        """Return whether the network is fine-tuned between rounds of pruning."""
        rounds = self.schedule != "one_shot" and self.process is None
        return rounds and self.epochs_per_round > 0

    @property
    def shares_scores(self) -> bool:
        """Return whether the first scores are kept, for all ratios and scopes: they took images.

        A criterion says so by an option: how many images, or batches (``count``), it looks at.
        Where weights are pruned in rounds with training between, each round scores by itself.
        """
        if self.criterion is None or (self.unit is None and self.trains_between):
            return False
        return bool({"images", "count"} & defaults(self.criterion.node.get("_target_", "")).keys())


@dataclass(frozen=True, kw_only=True)
class Attack(Group):
    """Declare what the harness reads of every attack."""

    images: Count | None = None
    batch_size: Count = 256
    eps: Annotated[float, Gt(0), Le(10), PIXEL_UNITS] | Quotient | None = None
    perturbation: str | None = None
    content_id: Any = None

    @property
    def source_attack(self) -> "Attack | None":
        """Return how a transfer attack attacks its source; None of any other attack.

        Batches shape what is drawn: with those of this attack, the examples are white-box ones.
        """
        if "inner" not in self.method:
            return None
        shape = {"images": self.images, "batch_size": self.batch_size}
        return typed(Attack, self.node["inner"] | shape)

    def build(self) -> Any:
        """Return the attack with its options bound."""
        return build(without(self.method.node, "content_id"))


@dataclass(frozen=True, kw_only=True)
class Objective(Group):
    """Declare what the harness reads of every objective."""

    select: Literal["clean_acc", "robust_acc"] = "clean_acc"
    keep: Literal["best", "last"] = "best"
    phases: dict[Literal["search", "finetune"], Any] | None = None

    def in_phase(self, phase: Literal["search", "finetune"] | None) -> "Objective":
        """Return the objective of a phase (None: dense training), changed by its ``phases``.

        A phase with a ``_target_`` of its own has another objective; how epochs are judged stays.
        """
        changes = (self.phases or {}).get(phase) or {} if phase is not None else {}
        kept = {name: value for name, value in self.node.items() if name != "phases"}
        if "_target_" in changes:
            kept = {name: value for name, value in kept.items() if name in ("select", "keep")}
        return typed(Objective, kept | changes)

    def build(self) -> Any:
        """Return the objective; its threat and its inner attack are bound."""
        return self.method.build()


@dataclass(frozen=True, kw_only=True)
class Quantizer(Group):
    """Declare what the harness reads of every quantizer."""

    images: Count = 1
    epochs: Natural = 0
    learning_rate: Weight | None = None
    runs: Literal["fake_quant", "int8"] = "fake_quant"


@dataclass(frozen=True)
class Radii:
    """Declare the customary eps of each norm."""

    linf: Annotated[float, Gt(0), Le(1)] | Quotient = 1.0
    l2: Annotated[float, Gt(0), Le(10)] | Quotient = 1.0


@dataclass(frozen=True)
class PhaseEpochs:
    """Declare how long each phase takes."""

    dense: Epochs = 1
    search: Epochs = 1
    finetune: Epochs = 1


@dataclass(frozen=True)
class PhaseRates:
    """Declare the learning rate of each phase."""

    dense: Weight = 0.1
    search: Weight = 0.1
    finetune: Weight = 0.1


@dataclass(frozen=True, kw_only=True)
class Dataset(Group):
    """Declare what a data set says of its images, and suggests to the other groups."""

    num_classes: Annotated[int, Ge(2), Le(100_000)] | None = None
    channels: Annotated[int, Ge(1), Le(64)] = 1
    image_size: Side = 8
    mean: list[Share] | None = None
    std: list[Annotated[float, Gt(0), Le(1)]] | None = None
    eps: Radii = field(default_factory=Radii)
    attack_steps: Count = 1
    epochs: PhaseEpochs = field(default_factory=PhaseEpochs)
    batch_size: Count = 128
    learning_rate: PhaseRates = field(default_factory=PhaseRates)
    content: str | None = None
    content_id: Any = None
    extra_id: Any = None
    test_id: Any = None
    train_id: Any = None
    files: dict[str, Any] | None = None
    source_id: str | None = None
    verify: bool = False

    def build(
        self, *, seed: int, batch_size: int, val_images: int | None = None, repeats: int = 1
    ) -> Any:
        """Return the data module.

        Args:
            seed: of the order and the augmentation.
            batch_size: images a step.
            val_images: validation images at most; None: all.
            repeats: how often each batch is trained on in one pass.
        """
        return self.method.build(
            num_classes=self.num_classes,
            channels=self.channels,
            image_size=self.image_size,
            seed=seed,
            batch_size=batch_size,
            val_images=val_images,
            repeats=repeats,
        )


#: What a network is told of its images; one of the user's own need not take all of it.
OF_IMAGES = frozenset({"num_classes", "in_channels", "image_size", "mean", "std"})


@dataclass(frozen=True)
class Network(Method):
    """Hold a network's call, with the sizes and pixel constants of its data set."""

    def build(self, **extra: Any) -> Any:
        """Build the network, telling it what it takes of its images' sizes and constants.

        Args:
            **extra: arguments that the harness gives; they need not be plain values.

        Raises:
            UserError: what the target raises.
        """
        return build(self.call, **extra)

    @property
    def call(self) -> Node:
        """Return the target and the arguments that it is given."""
        parameters = inspect.signature(get_object(self.target)).parameters
        if takes_any_option(parameters):
            return without(self.node, "source_id")
        untold = {"source_id"} | (OF_IMAGES - parameters.keys())
        return {name: value for name, value in self.node.items() if name not in untold}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of the images that it is built for."""
        side = int(self.node["image_size"])
        return int(self.node["in_channels"]), side, side


#: The groups of which the harness reads some options, and a method takes the others.
HARNESS: dict[str, type[Group]] = {
    "attack": Attack,
    "objective": Objective,
    "quantizer": Quantizer,
    "dataset": Dataset,
}


@functools.cache
def declared_fields(declared: type) -> tuple[Field[Any], ...]:
    """Return the options that a dataclass declares."""
    return tuple(option for option in fields(declared) if option.name != "node")


@functools.cache
def hints(declared: type) -> dict[str, Any]:
    """Return the annotations of a dataclass's options, with their ranges."""
    every = typing.get_type_hints(declared, include_extras=True)
    return {name: hint for name, hint in every.items() if name != "node"}


@functools.cache
def nested(declared: type) -> dict[str, type]:
    """Return the dataclass of each option that is a group of options, or a method's call."""
    inner_types = {
        name: next((member for member in members(hint) if is_dataclass(member)), None)
        for name, hint in hints(declared).items()
    }
    return {name: cast(type, inner) for name, inner in inner_types.items() if inner is not None}


def is_required(option: "Field[Any]") -> bool:
    """Return whether an option has no default."""
    return option.default is MISSING and option.default_factory is MISSING


def typed(declared: type[T], node: Mapping[str, Any]) -> T:
    """Return plain options as an object; they were checked before.

    Args:
        declared: a dataclass of this file or of ``modules/recipe.py``.
        node: option -> plain value; a missing one takes its default.
    """
    group: type = declared
    annotations, inner = hints(group), nested(group)
    values: dict[str, Any] = {}
    for name, value in node.items():
        if name in inner and isinstance(value, dict):
            values[name] = Method(value) if inner[name] is Method else typed(inner[name], value)
        elif name in annotations:
            values[name] = _read(annotations[name], value) if isinstance(value, str) else value
    if issubclass(declared, Group):
        values["node"] = dict(node)
    return declared(**values)


def plain(options: "DataclassInstance") -> Node:
    """Return the options of a dataclass that is no ``Group`` as plain values."""
    return {option.name: _plain(getattr(options, option.name)) for option in fields(options)}


def _plain(value: Any) -> Any:
    """Return a member of an enum as its name, and a group of options as a dict."""
    if isinstance(value, Enum):
        return value.name
    return plain(value) if is_dataclass(value) and not isinstance(value, type) else value


def _read(annotation: object, text: str) -> Any:
    """Return a text as what its annotation says: a member of an enum, a quotient, or itself."""
    for member in members(annotation):
        if isinstance(member, type) and issubclass(member, Enum):
            return member[text]
        if member is Quotient:
            return fraction(text) if is_quotient(text) else text
    return text
