"""Declare the options of a command and what each may be; methods declare theirs in signatures.

The root is a typed configuration of Hydra's, so that ``ratio=99%`` is refused and not passed on as
a string. The classes below it say what the harness reads of a group's own file:
``Dataset.num_classes``, ``Attack.images``.
"""

import typing
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from hydra.core.config_store import ConfigStore

from advprune.modules.recipe import Recipe
from advprune.ranges import (
    PIXEL_UNITS,
    Count,
    Hint,
    Natural,
    Quotient,
    Seed,
    Share,
    Side,
    Weight,
    Width,
)


@dataclass
class TrainOptions:
    """Declare the root of ``train.py``."""

    seed: Seed = 0
    source: str | None = None
    source_seed: Seed | None = None
    source_model: Any = None
    store: str = "multirun/stages"
    report: bool = True
    training: Recipe = field(default_factory=Recipe)
    search: Recipe = field(default_factory=Recipe)
    finetune: Recipe = field(default_factory=Recipe)
    select: Any = None
    dataset: Any = None
    model: Any = None
    objective: Any = None
    threat: Any = None
    quantizer: Any = None
    attack: Any = None
    trainer: Any = None
    logger: Any = None


@dataclass
class PruneOptions(TrainOptions):
    """Declare the root of ``prune.py``."""

    ratio: Annotated[float, Ge(0), Lt(1), Hint("ratio is the share of weights removed")] | None = (
        0.99
    )
    compression: Annotated[float, Ge(1), Le(1e9)] | None = None
    dense: str | None = None
    pruner: Any = None
    sizes: bool = False
    export: str | None = None


@dataclass
class AttackOptions(PruneOptions):
    """Declare the root of ``attack.py``."""

    checkpoint: str | None = None


@dataclass
class Select:
    """Declare how the kept epoch is chosen."""

    keep: Literal["best", "last"]
    metric: Literal["clean_acc", "robust_acc"]
    images: Count | None
    steps: Count


@dataclass
class Trainer:
    """Declare where a job runs and how fast."""

    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"]
    devices: Annotated[int, Ge(1), Le(4096)] | None
    nodes: Annotated[int, Ge(1), Le(4096)]
    threads: Annotated[int, Ge(1), Le(4096)] | None
    precision: Literal["fp32", "bf16"]
    memory_format: Literal["contiguous", "channels_last"] | None
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None
    allocator: Literal["keep", "system"]
    batch_norm: Literal["synchronised", "local", "rank0"]
    retries: Annotated[int, Ge(0), Le(100)]


@dataclass
class Search:
    """Declare how a learned pruner's scores start and what BatchNorm does meanwhile."""

    init: Literal["scaled", "kaiming", "magnitude"]
    bn: Literal["train", "freeze_affine", "freeze_all"]


@dataclass
class Pruner:
    """Declare the options every pruner has; see ``conf/pruner/base.yaml``."""

    criterion: dict[str, Any] | None
    scope: Literal["layer", "global", "erk", "igq", "lamp", "normed"]
    unit: Literal["filters", "blocks"] | None
    budget: Literal["parameters", "macs", "filters", "blocks"] | None
    floor: Width | None
    round_to: Width | None
    schedule: Literal["one_shot", "linear", "exponential", "cubic", "hyperbolic"]
    rounds: Annotated[int, Ge(1), Le(10_000)]
    epochs_per_round: Annotated[int, Ge(0), Le(100_000)]
    recovery: Literal["finetune", "rewind", "scratch"]
    search: Search | None
    score: str | None
    remove: Literal["smallest", "largest"] | None
    select: Literal["quantile", "bernoulli"] | None
    biases: bool | None
    classifier: bool | None


@dataclass
class Attack:
    """Declare what the harness reads of every attack."""

    images: Count | None = None
    batch_size: Count = 256
    eps: Annotated[float, Gt(0), Le(10), PIXEL_UNITS] | Quotient | None = None
    perturbation: str | None = None
    content_id: Any = None


@dataclass
class Objective:
    """Declare what the harness reads of every objective."""

    select: Literal["clean_acc", "robust_acc"] = "clean_acc"
    keep: Literal["best", "last"] = "best"
    phases: dict[Literal["search", "finetune"], Any] | None = None


@dataclass
class Quantizer:
    """Declare what the harness reads of every quantizer."""

    images: Count = 1
    epochs: Natural = 0
    learning_rate: Weight | None = None
    runs: Literal["fake_quant", "int8"] = "fake_quant"


@dataclass
class Radii:
    """Declare the customary eps of each norm."""

    linf: Annotated[float, Gt(0), Le(1)] | Quotient = 1.0
    l2: Annotated[float, Gt(0), Le(10)] | Quotient = 1.0


@dataclass
class Epochs:
    """Declare how long each phase takes."""

    dense: Annotated[int, Ge(1), Le(100_000)] = 1
    search: Annotated[int, Ge(1), Le(100_000)] = 1
    finetune: Annotated[int, Ge(1), Le(100_000)] = 1


@dataclass
class Rates:
    """Declare the learning rate of each phase."""

    dense: Weight = 0.1
    search: Weight = 0.1
    finetune: Weight = 0.1


@dataclass
class Dataset:
    """Declare what a data set says of its images, and suggests to the other groups."""

    num_classes: Annotated[int, Ge(2), Le(100_000)] | None = None
    channels: Annotated[int, Ge(1), Le(64)] = 1
    image_size: Side = 8
    mean: list[Share] = field(default_factory=list)
    std: list[Annotated[float, Gt(0), Le(1)]] = field(default_factory=list)
    eps: Radii = field(default_factory=Radii)
    attack_steps: Count = 1
    epochs: Epochs = field(default_factory=Epochs)
    batch_size: Count = 128
    learning_rate: Rates = field(default_factory=Rates)
    content: str | None = None
    content_id: Any = None
    extra_id: Any = None
    test_id: Any = None
    train_id: Any = None
    files: dict[str, Any] | None = None
    verify: bool = False


COMMANDS = {"train": TrainOptions, "prune": PruneOptions, "attack": AttackOptions}
#: What the harness reads of a group itself and does not pass on; see ``validate.py``.
HARNESS = {"attack": Attack, "objective": Objective, "quantizer": Quantizer, "dataset": Dataset}


def hints(schema: Any) -> dict[str, Any]:
    """Return the annotations of a schema's fields, with their ranges."""
    return typing.get_type_hints(schema, include_extras=True)


def annotation_of(command: str, name: str) -> Any:
    """Return the annotation of a root option, by its dotted name; None if it has none."""
    schema: Any = COMMANDS[command]
    for part in name.split("."):
        schema = hints(schema).get(part) if is_dataclass(schema) else None
    return None if schema is None or is_dataclass(schema) or schema is Any else schema


def register() -> None:
    """Register the schemas with Hydra; the scripts call it before they compose."""
    for command, schema in COMMANDS.items():
        ConfigStore.instance().store(name=f"{command}_schema", node=schema)
