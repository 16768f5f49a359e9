"""What can only be checked by making it: attack, objective, threat and pruner, once, before any data is read."""

from functools import partial
from typing import Any

from torch import nn

from advprune.bounds.certificate import proves
from advprune.errors import UserError
from advprune.pruners.schedule import cumulative
from advprune.stages import budget, dry_calls, inputs, parts, proofs, shrinkable
from advprune.stages.build import build
from advprune.stages.content import classes_of, network_options, with_content
from advprune.stages.door import frame_free
from advprune.stages.judged import judged_threat
from advprune.surgery import export


def _rehearse_quantizer(options: dict[str, Any]) -> None:
    """Quantize a fresh network, so that a layer that cannot be is named before anything is trained."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None or options["dataset"]["num_classes"] is None:
        return
    from advprune.quantizers.int8 import Int8

    made = build(frame_free("quantizer", quantizer))(fresh(options))
    if quantizer["runs"] == "int8" or options.get("sizes"):
        Int8(made)


def rehearse(options: dict[str, Any]) -> None:
    """Make everything that needs no data, and drop it again.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    if options["dataset"]["num_classes"] is None:  # the folder says how many
        options = with_content(options)
    inputs.check(options, fresh)
    for threat in (options["threat"], judged_threat(options)):
        _fits_pixels(parts.threat({"threat": threat}), options["dataset"])
    attack = parts.attack(options)
    _no_proof_inside(attack)
    parts.objective(options)
    dry_calls.call_attack(attack, options)
    dry_calls.call_objective(options)
    dry_calls.check_images(options)
    net = fresh(options) if classes_of(options["dataset"]) is not None else None
    if net is not None:
        dry_calls.call_network(options, net)
    if options.get("export") == "onnx":
        export.check_packages()
    if options["dataset"]["num_classes"] is not None:  # else only the data says what the network is
        proofs.rehearse_objective(options, fresh)
        proofs.rehearse_certifier(attack, options, fresh)
    _rehearse_quantizer(options)
    if options.get("pruner") is None:
        return
    pruner = options["pruner"]
    if pruner["criterion"] is not None and "_target_" not in pruner["criterion"]:
        raise UserError(
            "pruner.criterion names no function: choose one with pruner=…, or pruner/criterion=… of filters"
        )
    _fit_together(pruner)
    ratio = options["ratio"]
    if options.get("compression") is not None or pruner["classifier"] is False:
        ratio = budget.wanted(fresh(options), options)
    cumulative(ratio, schedule=pruner["schedule"], rounds=pruner["rounds"])
    dry_calls.check_start(options)
    if pruner["criterion"] is not None:
        build(pruner["criterion"])
        if net is not None:
            dry_calls.call_criterion(options, net)
    if pruner["unit"] is not None:
        shrinkable.check(options, fresh(options), ratio)


def _fits_pixels(threat: Any, dataset: dict[str, Any]) -> None:
    """A Euclidean ball larger than the whole cube of pixels allows every image."""
    side, channels = dataset["image_size"], dataset["channels"]
    if threat.norm == "l2" and side is not None and channels is not None:
        largest = (channels * side * side) ** 0.5
        if threat.eps > largest:
            raise UserError(
                f"threat.eps={threat.eps:g} is larger than the pixel range: no two images of {channels} x {side} x "
                f"{side} pixels in [0, 1] are more than {largest:.3g} apart in L2; give a smaller threat.eps"
            )


def _no_proof_inside(attack: partial[Any]) -> None:
    """Refuse a certifier where examples are wanted: inside a transfer attack, or among those that worst_of tries."""
    members = {"inner": attack.keywords.get("inner")}
    several = attack.keywords.get("attacks")  # of worst_of by name; autoattack's are the names of its parts
    members |= {f"attacks.{name}": one for name, one in several.items()} if isinstance(several, dict) else {}
    for name, member in members.items():
        if member is not None and proves(member):
            raise UserError(
                f"attack.{name}={member.func.__name__} proves and makes no examples: give an attack there, such as "
                "pgd, and certify by itself: attack=certify_ibp, …"
            )


def fresh(options: dict[str, Any]) -> nn.Module:
    """The job's network with new weights."""
    known = options["dataset"]["num_classes"] is not None  # else only the folder says how many
    return parts.network({"model": network_options(options if known else with_content(options))}, seed=0)


def _fit_together(pruner: dict[str, Any]) -> None:
    """Refuse an option that this pruner would not look at."""
    extra = [name for name in ("score", "remove", "select", "biases", "classifier") if pruner[name] is not None]
    if pruner["unit"] is not None and extra:
        raise UserError(f"pruner.{extra[0]} is for single weights, and this pruner removes {pruner['unit']}: null")
    if pruner["search"] is not None and extra:
        raise UserError(f"pruner.{extra[0]} is for a pruner that computes its scores, not one that learns them: null")
    if pruner["score"] is not None and "score" not in (pruner["criterion"] or {}):
        raise UserError(f"pruner.score={pruner['score']} is not looked at: this pruner has one score; leave it null")
    if pruner["select"] is not None and (pruner["schedule"] != "one_shot" or pruner["scope"] == "erk"):
        raise UserError(f"pruner.select={pruner['select']} prunes once, by scope=layer or global; or leave it null")
    if pruner["select"] == "bernoulli" and not pruner["criterion"]["_target_"].endswith(".random"):
        raise UserError("pruner.select=bernoulli draws a chance for each weight: it goes with pruner=random alone")
