"""What can only be checked by making it: attack, objective, threat and pruner, once, before any data is read."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from advprune.errors import UserError
from advprune.pruners.schedule import cumulative
from advprune.stages import parts
from advprune.stages.build import build
from advprune.stages.door import frame_free
from advprune.stages.plan import network_options


class Search(BaseModel):
    """How a learned pruner's scores start and what BatchNorm does meanwhile."""

    model_config = ConfigDict(extra="forbid", strict=True)
    init: Literal["scaled", "kaiming", "magnitude"]
    bn: Literal["train", "freeze_affine", "freeze_all"]


class Pruner(BaseModel):
    """The options every pruner has; see ``conf/pruner/base.yaml``."""

    model_config = ConfigDict(extra="forbid", strict=True)
    criterion: dict[str, Any] | None
    scope: Literal["layer", "global", "erk"]
    schedule: Literal["one_shot", "linear", "exponential", "cubic"]
    rounds: int
    epochs_per_round: int
    recovery: Literal["finetune", "rewind", "scratch"]
    search: Search | None


def _rehearse_quantizer(options: dict[str, Any]) -> None:
    """Quantize a fresh network, so that a layer that cannot be is named before anything is trained."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None or options["dataset"]["num_classes"] is None:
        return
    from advprune.quantizers.int8 import Int8

    made = build(frame_free("quantizer", quantizer))(parts.network({"model": network_options(options)}, seed=0))
    if quantizer["runs"] == "int8":
        Int8(made)


def rehearse(options: dict[str, Any]) -> None:
    """Make everything that needs no data, and drop it again.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    parts.threat(options)
    parts.attack(options)
    parts.objective(options)
    _rehearse_quantizer(options)
    if options.get("pruner") is None:
        return
    pruner = options["pruner"]
    try:
        Pruner.model_validate(pruner)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"pruner.{name}={first['input']!r} is not possible: {first['msg']}") from None
    cumulative(options["ratio"], schedule=pruner["schedule"], rounds=pruner["rounds"])
    if pruner["criterion"] is not None:
        build(pruner["criterion"])
