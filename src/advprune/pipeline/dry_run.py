"""What can only be checked by making it: attack, objective, threat and pruner, once, before any data is read."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from advprune.bounds.certificate import proves
from advprune.config.attack_radius import evaluation_threat
from advprune.config.fingerprints import classes_of, network_options, with_fingerprints
from advprune.config.instantiate import build
from advprune.config.phases import of_phase
from advprune.config.validate import method_options
from advprune.errors import UserError
from advprune.models import foreign
from advprune.pipeline import dry_run_bounds, dry_run_calls, dry_run_structured, unread_options
from advprune.pruners.schedule import cumulative
from advprune.stages import (
    checkpoint,
    factories,
    image_checks,
    masking,
    pruning_phases,
    sparse_parent,
)
from advprune.stages.dense import early_pass
from advprune.surgery import export


def _rehearse_quantizer(options: dict[str, Any]) -> None:
    """Quantize a fresh network, so that a layer that cannot be is named before anything is trained."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None or options["dataset"]["num_classes"] is None:
        return
    from advprune.quantizers.int8 import Int8

    made = build(method_options("quantizer", quantizer))(untrained_network(options))
    if quantizer["runs"] == "int8" or options.get("sizes"):
        Int8(made)


def dry_run(options: dict[str, Any]) -> None:
    """Make everything that needs no data, and drop it again.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    if options["dataset"]["num_classes"] is None:  # the folder says how many
        options = with_fingerprints(options)
    image_checks.check(options, untrained_network)
    for threat in (options["threat"], evaluation_threat(options)):
        _fits_pixels(factories.threat({"threat": threat}), options["dataset"])
    attack = factories.attack(options)
    _no_proof_inside(attack)
    if "face" in options["attack"] and (options.get("quantizer") or {}).get("_target_") is None:
        raise UserError(
            f"attack.face={options['attack']['face']} is of a quantized network, and this one is "
            "not: give quantizer=ptq_static or another, or attack=pgd"
        )
    factories.objective(options)
    dry_run_calls.call_attack(attack, options)
    dry_run_calls.call_objective(options)
    dry_run_calls.check_images(options)
    net = untrained_network(options) if classes_of(options["dataset"]) is not None else None
    if net is not None:
        dry_run_calls.call_network(options, net)
    if options.get("export") == "onnx":
        export.check_packages()
    if options["dataset"]["num_classes"] is not None:  # else only the data says what the network is
        dry_run_bounds.rehearse_objective(options, untrained_network)
        dry_run_bounds.rehearse_certifier(attack, options, untrained_network)
    _rehearse_quantizer(options)
    if options.get("pruner") is None:
        return
    pruner = options["pruner"]
    if pruner["criterion"] is not None and "_target_" not in pruner["criterion"]:
        raise UserError(
            "pruner.criterion names no function: choose one with pruner=…, or pruner/criterion=… "
            "of filters"
        )
    unread_options.check(options, untrained_network)
    dry_run_calls.check_start(options)
    if pruner["recovery"] == "rewind":
        _rewinds(options)
    ratio = options["ratio"]
    if options.get("compression") is not None or pruner["classifier"] is False:
        ratio = masking.target_ratio(untrained_network(options), options)
    if options.get("dense") is not None and pruner["unit"] is None:
        sparse_parent.check(_from_file(options), pruner, ratio)
    cumulative(ratio, schedule=pruner["schedule"], rounds=pruner["rounds"])
    phase = "search" if pruner["search"] else "finetune"
    pruning_phases.check(
        options, factories.objective({"objective": of_phase(options["objective"], phase)})
    )
    if pruner["criterion"] is not None:
        build(pruner["criterion"])
        if net is not None:
            dry_run_calls.call_criterion(options, net)
    if pruner["unit"] is not None:
        dry_run_structured.check(options, untrained_network(options), ratio)


def _fits_pixels(threat: Any, dataset: dict[str, Any]) -> None:
    """A Euclidean ball larger than the whole cube of pixels allows every image."""
    side, channels = dataset["image_size"], dataset["channels"]
    if threat.norm == "l2" and side is not None and channels is not None:
        largest = (channels * side * side) ** 0.5
        if threat.eps > largest:
            raise UserError(
                f"threat.eps={threat.eps:g} is larger than the pixel range: no two images of "
                f"{channels} x {side} x {side} pixels in [0, 1] are more than {largest:.3g} apart "
                "in L2; give a smaller threat.eps"
            )


def _no_proof_inside(attack: partial[Any]) -> None:
    """Refuse a certifier where examples are wanted: inside a transfer attack, or among those that worst_of tries."""
    members = {"inner": attack.keywords.get("inner")}
    # of worst_of by name; autoattack's are the names of its parts
    several = attack.keywords.get("attacks")
    members |= (
        {f"attacks.{name}": one for name, one in several.items()}
        if isinstance(several, dict)
        else {}
    )
    for name, member in members.items():
        if member is not None and proves(member):
            raise UserError(
                f"attack.{name}={member.func.__name__} proves and makes no examples: give an "
                "attack there, such as pgd, and certify by itself: attack=certify_ibp, …"
            )


def untrained_network(options: dict[str, Any]) -> nn.Module:
    """The job's network with new weights."""
    known = options["dataset"]["num_classes"] is not None  # else only the folder says how many
    return factories.network(
        {"model": network_options(options if known else with_fingerprints(options))}, seed=0
    )


def _from_file(options: dict[str, Any]) -> nn.Module:
    """The job's network with the weights that it starts from."""
    net, path = untrained_network(options), Path(options["dense"])
    checkpoint.shape_like(net, foreign.read(path), path.parent)
    foreign.load(net, path)
    return net


def _rewinds(options: dict[str, Any]) -> None:
    """Refuse to rewind where the early weights would be the initial ones."""
    epochs, objective = (
        options["training"]["epochs"],
        factories.objective({"objective": of_phase(options["objective"], None)}),
    )
    if early_pass(pruning_phases.passes(epochs, objective)) == 0:
        least = next(n for n in range(1, 1000) if early_pass(pruning_phases.passes(n, objective)))
        raise UserError(
            "pruner.recovery=rewind goes back to a tenth of the dense training, and of "
            f"training.epochs={epochs} that is no epoch: give training.epochs={least} or more, or "
            "pruner.recovery=scratch"
        )
