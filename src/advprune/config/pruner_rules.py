"""Refuse options of a pruner that it would not read: they give one result under two keys."""

from advprune.config.groups import Pruner
from advprune.errors import UserError

#: For single weights, and for scores that a criterion computes.
OF_WEIGHTS = ("score", "remove", "select", "biases", "classifier")
#: For networks that get smaller.
OF_UNITS = ("budget", "floor", "round_to")


def check_pruner(pruner: Pruner) -> None:
    """Refuse the options that this pruner would not read, and those that it needs and lacks.

    Raises:
        UserError: naming the option, who reads it and the cure.
    """
    if (pruner.criterion is None) == (pruner.process is None):
        raise UserError(
            "a pruner has a criterion or a process, one of the two: choose pruner=hydra, magnitude "
            "or another"
        )
    if pruner.criterion is not None and "_target_" not in pruner.criterion:
        raise UserError(
            "pruner.criterion names no function: choose one with pruner=…, or pruner/criterion=… "
            "of filters"
        )
    if pruner.scope != "nm" and (pruner.n, pruner.m) != (None, None):
        raise UserError(
            f"pruner.n={pruner.n} and pruner.m={pruner.m} are not looked at: they are of "
            "pruner.scope=nm; leave them null, or give that scope"
        )
    if pruner.scope == "nm" and pruner.schedule != "one_shot":
        raise UserError(
            f"pruner.schedule={pruner.schedule} is not possible with pruner.scope=nm, which has "
            "one ratio, 1 - n/m: give pruner.schedule=one_shot"
        )
    if pruner.unit is None:
        _check_weights(pruner)
    else:
        _check_unit(pruner)
    _check_scores(pruner)


def _set_options(pruner: Pruner, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if pruner.node[name] is not None]


def _check_weights(pruner: Pruner) -> None:
    extra = _set_options(pruner, OF_UNITS)
    if extra:
        raise UserError(
            f"pruner.{extra[0]}={pruner.node[extra[0]]} is not looked at: it is for pruners that "
            "remove filters or blocks, such as pruner=filters, and this one removes single "
            "weights; leave it null"
        )


def _check_unit(pruner: Pruner) -> None:
    extra = _set_options(pruner, OF_WEIGHTS)
    if extra:
        raise UserError(
            f"pruner.{extra[0]} is for single weights, and this pruner removes {pruner.unit}: null"
        )
    if pruner.unit == "blocks":
        _check_blocks(pruner)
    elif pruner.budget == "filters" and pruner.scope == "layer" and pruner.floor is not None:
        raise UserError(
            f"pruner.floor={pruner.floor} is not looked at: with pruner.budget=filters and "
            "scope=layer each layer keeps its share; leave it null, or give pruner.scope=global"
        )
    if pruner.budget is None:
        raise UserError(
            f"pruner.unit={pruner.unit} needs to know what ratio is a share of: give "
            f"pruner.budget=parameters, macs or {pruner.unit}"
        )


def _check_blocks(pruner: Pruner) -> None:
    if pruner.scope != "layer":
        raise UserError(
            f"pruner.scope={pruner.scope} is not looked at: blocks are ranked over the whole "
            "network; leave it out"
        )
    if pruner.round_to is not None:
        raise UserError(
            f"pruner.round_to={pruner.round_to} rounds filters, and pruner=blocks removes none: "
            "null"
        )


def _check_scores(pruner: Pruner) -> None:
    extra = _set_options(pruner, OF_WEIGHTS)
    if pruner.epochs is not None and pruner.process is None:
        raise UserError(
            f"pruner.epochs={pruner.epochs} is not looked at: nothing trains while a criterion "
            "scores; leave it null"
        )
    of_scores = [name for name in extra if name != "classifier"]
    if pruner.process is not None and of_scores:
        raise UserError(
            f"pruner.{of_scores[0]} is for a pruner that computes its scores, not one that learns "
            "them: null"
        )
    if pruner.objective is not None and pruner.process is None:
        raise UserError(
            "pruner.objective is not looked at: nothing trains while a criterion scores; leave it "
            "null"
        )
    if pruner.score is not None and (pruner.criterion is None or "score" not in pruner.criterion):
        raise UserError(
            f"pruner.score={pruner.score} is not looked at: this pruner has one score; leave it "
            "null"
        )
    exact = pruner.schedule != "one_shot" or pruner.scope not in ("layer", "global")
    if pruner.select is not None and exact:
        raise UserError(
            f"pruner.select={pruner.select} prunes once, by scope=layer or global; or leave it null"
        )
    draws = pruner.criterion is not None and pruner.criterion.name == "random"
    if pruner.select == "bernoulli" and not draws:
        raise UserError(
            "pruner.select=bernoulli draws a chance for each weight: it goes with pruner=random "
            "alone"
        )
