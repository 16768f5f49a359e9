"""Refuse options that do not fit together, or that nothing reads: two keys would be one result."""

from advprune.config.groups import Pruner
from advprune.errors import UserError
from advprune.range_errors import as_typed
from advprune.store.keys import Node

#: For single weights, and for scores that a criterion computes.
OF_WEIGHTS = ("score", "remove", "select", "biases", "classifier")
#: For networks that get smaller.
OF_UNITS = ("budget", "floor", "round_to")


def check_ratio(ratio: object) -> None:
    """Refuse a ratio that is a percentage.

    Raises:
        UserError: with the share that is probably meant.
    """
    if isinstance(ratio, int | float) and 1 < ratio < 100:
        raise UserError(
            f"ratio={ratio:g} is not possible: ratio is the share of weights removed, in [0, 1); "
            f"for {ratio:g} % write ratio={ratio / 100:g}"
        )


def check_together(options: Node) -> None:
    """Refuse options of which each is possible, and that do not fit together.

    Raises:
        UserError: naming the option and the cure.
    """
    if options.get("debug") not in (None, "smoke"):
        raise UserError(
            f"debug={as_typed(options['debug'])} is not known: here it is debug=smoke, which runs "
            "every stage of any command in seconds"
        )
    if options.get("export") not in (None, "safetensors", "onnx", "hub"):
        raise UserError(
            f"export={as_typed(options['export'])} is not possible: it must be safetensors, onnx, "
            "hub or null"
        )
    if options.get("export") == "hub" and (options.get("quantizer") or {}).get("_target_"):
        raise UserError(
            "export=hub writes a network in floating point, and quantizer makes one in 8 bits: "
            "give quantizer=none, or export=onnx"
        )
    if "ratio" in options and options["ratio"] is None and options.get("compression") is None:
        raise UserError(
            "ratio=null leaves nothing to prune to: give ratio, the share removed, or compression"
        )
    dataset = options["dataset"]
    if dataset.get("num_classes") is None and dataset.get("content") is None:
        raise UserError(
            "dataset.num_classes=null is for folders, whose names are the classes: give the number"
        )
    _check_attack(options)
    for phase in ("training", "search", "finetune"):
        _check_recipe(phase, options[phase])
        _check_perturb(phase, options[phase])
    _check_quantizer(options.get("quantizer") or {})


def _check_attack(options: Node) -> None:
    attack = options["attack"]
    eps, perturbation = attack.get("eps"), attack.get("perturbation")
    if eps is not None and perturbation is not None:
        raise UserError(
            f"attack.eps={eps} is not looked at: this attack has a perturbation set of its own "
            f"({perturbation})"
        )
    if "inner" in attack and "source" in attack:
        raise UserError(
            f"attack.source={attack['source']} is not an option; write source=… without attack."
        )
    unread = [
        name for name in ("source", "source_seed", "source_model") if options.get(name) is not None
    ]
    if unread and "inner" not in attack:
        raise UserError(
            f"{unread[0]} says whose examples attack=transfer uses; write attack=transfer, or "
            "leave it out"
        )


def _check_recipe(phase: str, recipe: Node) -> None:
    """Check that a phase's options fit together."""
    if recipe["warmup_epochs"] > recipe["epochs"]:
        raise UserError(
            f"{phase}.warmup_epochs={recipe['warmup_epochs']:g} is not possible: it must be at "
            f"most {phase}.epochs, which is {recipe['epochs']}"
        )
    milestones, schedule = recipe["milestones"], recipe["schedule"]
    if milestones is not None and schedule != "step":
        raise UserError(
            f"{phase}.milestones are not looked at with {phase}.schedule={schedule}: leave them "
            f"null, or give {phase}.schedule=step"
        )
    if milestones is not None and milestones != sorted(set(milestones)):
        raise UserError(
            f"{phase}.milestones={milestones} do not rise: give shares of the phase in their "
            "order, such as [0.5,0.75]"
        )
    if recipe["nesterov"] and not recipe["momentum"]:
        raise UserError(
            f"{phase}.nesterov=true needs a momentum: give {phase}.momentum above 0, or "
            f"{phase}.nesterov=null"
        )


def _check_perturb(phase: str, recipe: Node) -> None:
    """Check that what a phase perturbs trains in it, and in some of its epochs."""
    what, warmup = recipe["perturb"]["what"], recipe["perturb"]["warmup_epochs"]
    if what == "scores" and phase != "search":
        raise UserError(
            f"{phase}.perturb.what=scores is not possible: only a search learns scores; give "
            f"search.perturb.what=scores, or {phase}.perturb.what=weights"
        )
    if what is not None and warmup >= recipe["epochs"]:
        raise UserError(
            f"{phase}.perturb.warmup_epochs={warmup:g} leaves no epoch of "
            f"{phase}.epochs={recipe['epochs']} to perturb: give fewer, such as 0, or "
            f"{phase}.perturb.what=null"
        )


def _check_quantizer(quantizer: Node) -> None:
    if quantizer.get("_target_") is None:
        set_options = [
            f"quantizer.{name}={value}" for name, value in quantizer.items() if value is not None
        ]
        if set_options:
            raise UserError(
                f"{set_options[0]} says how to quantize, but nothing is: give quantizer=ptq_static "
                "or another"
            )


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
    if pruner.through is not None and pruner.criterion is not None:
        _check_factors(pruner)


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


def _check_factors(pruner: Pruner) -> None:
    """Refuse factors of weights that do not train while a criterion prunes, or that have none."""
    if pruner.unit is not None or not pruner.trains_between:
        raise UserError(
            f"pruner.through={pruner.through} is not looked at: no single weights train between "
            "rounds of this pruner; give pruner.schedule=linear pruner.rounds=2, or "
            "pruner=twin_rep"
        )
    if pruner.through == "channel" and pruner.biases:
        raise UserError(
            "pruner.through=channel mixes filters, and a bias has none: give pruner.biases=null, "
            "or pruner.through=product"
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
