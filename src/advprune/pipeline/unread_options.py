"""Refuse options that the job would not read: they give the same result under another key."""

from collections.abc import Callable
from typing import Any

from torch import nn

from advprune.errors import UserError
from advprune.surgery.subnet import NORMS

#: For single weights, and for scores that a criterion computes.
OF_WEIGHTS = ("score", "remove", "select", "biases", "classifier")
#: For networks that get smaller.
OF_UNITS = ("budget", "floor", "round_to")


def check(options: dict[str, Any], fresh: Callable[[dict[str, Any]], nn.Module]) -> None:
    """Refuse the options that this pruner would not read.

    Args:
        options: of the job.
        fresh: options -> the job's network with new weights.

    Raises:
        UserError: naming the option, who reads it and the cure.
    """
    pruner = options["pruner"]
    _check_units(pruner)
    _check_scores(pruner)
    searched = pruner["search"]
    if (
        searched
        and searched["bn"] != "train"
        and not any(isinstance(m, NORMS) for m in fresh(options).modules())
    ):
        raise UserError(
            f"pruner.search.bn={searched['bn']} is not looked at: this network has no "
            "normalisation; leave it at train"
        )


def _check_units(pruner: dict[str, Any]) -> None:
    unit = pruner["unit"]
    unit_options = [name for name in OF_UNITS if pruner[name] is not None]
    if unit is None and unit_options:
        raise UserError(
            f"pruner.{unit_options[0]}={pruner[unit_options[0]]} is not looked at: it is for "
            "pruners that remove filters or blocks, such as pruner=filters, and this one removes "
            "single weights; leave it null"
        )
    extra = [name for name in OF_WEIGHTS if pruner[name] is not None]
    if unit is not None and extra:
        raise UserError(
            f"pruner.{extra[0]} is for single weights, and this pruner removes {unit}: null"
        )
    if unit == "blocks":
        if pruner["scope"] != "layer":
            raise UserError(
                f"pruner.scope={pruner['scope']} is not looked at: blocks are ranked over the "
                "whole network; leave it out"
            )
        if pruner["round_to"] is not None:
            raise UserError(
                f"pruner.round_to={pruner['round_to']} rounds filters, and pruner=blocks removes "
                "none: null"
            )
    if (
        unit == "filters"
        and pruner["budget"] == "filters"
        and pruner["scope"] == "layer"
        and pruner["floor"] is not None
    ):
        raise UserError(
            f"pruner.floor={pruner['floor']} is not looked at: with pruner.budget=filters and "
            "scope=layer each layer keeps its share; leave it null, or give pruner.scope=global"
        )


def _check_scores(pruner: dict[str, Any]) -> None:
    extra = [name for name in OF_WEIGHTS if pruner[name] is not None]
    if pruner["search"] is not None and extra:
        raise UserError(
            f"pruner.{extra[0]} is for a pruner that computes its scores, not one that learns "
            "them: null"
        )
    if pruner["score"] is not None and "score" not in (pruner["criterion"] or {}):
        raise UserError(
            f"pruner.score={pruner['score']} is not looked at: this pruner has one score; leave it "
            "null"
        )
    if pruner["select"] is not None and (
        pruner["schedule"] != "one_shot" or pruner["scope"] == "erk"
    ):
        raise UserError(
            f"pruner.select={pruner['select']} prunes once, by scope=layer or global; or leave it "
            "null"
        )
    if pruner["select"] == "bernoulli" and not pruner["criterion"]["_target_"].endswith(".random"):
        raise UserError(
            "pruner.select=bernoulli draws a chance for each weight: it goes with pruner=random "
            "alone"
        )
