"""Make and try every object of a job once, before any data is read or anything is trained.

``dry_run`` is the only entry. Its helpers call what it makes on two random images
(``dry_run_calls.py``), bounds and certifiers on the real network (``dry_run_bounds.py``), choose
filters and blocks (``dry_run_structured.py``), and refuse options that nothing reads
(``unread_options.py``).
"""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from advprune.bounds.certificate import proves
from advprune.config.attack_radius import evaluation_threat
from advprune.config.fingerprints import network_options, with_fingerprints
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
from advprune.threat import Threat


def dry_run(options: dict[str, Any]) -> None:
    """Make everything that needs no data, and drop it again.

    Args:
        options: of the job, resolved and checked by ``config.validate``.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    if options["dataset"]["num_classes"] is None:  # the folder says how many
        options = with_fingerprints(options)
    image_checks.check(options, untrained_network)
    attack = _try_attack(options)
    factories.objective(options)
    dry_run_calls.try_attack(attack, options)
    dry_run_calls.try_objective(options)
    dry_run_calls.check_images(options)
    net = untrained_network(options)
    dry_run_calls.try_network(options, net)
    if options.get("export") == "onnx":
        export.check_packages()
    dry_run_bounds.try_objective(options, untrained_network)
    dry_run_bounds.try_certifier(attack, options, untrained_network)
    _try_quantizer(options)
    if options.get("pruner") is not None:
        _try_pruner(options, net)


def untrained_network(options: dict[str, Any]) -> nn.Module:
    """Return the job's network with new weights."""
    return factories.network({"model": network_options(options)}, seed=0)


def _try_attack(options: dict[str, Any]) -> partial[Any]:
    """Make both threats and the attack, and return the attack."""
    for threat in (options["threat"], evaluation_threat(options)):
        _check_radius(factories.threat({"threat": threat}), options["dataset"])
    attack: partial[Any] = factories.attack(options)
    _refuse_inner_certifier(attack)
    if "face" in options["attack"] and (options.get("quantizer") or {}).get("_target_") is None:
        raise UserError(
            f"attack.face={options['attack']['face']} is of a quantized network, and this one is "
            "not: give quantizer=ptq_static or another, or attack=pgd"
        )
    return attack


def _check_radius(threat: Threat, dataset: dict[str, Any]) -> None:
    """Refuse a Euclidean ball larger than the whole cube of pixels: it allows every image."""
    side, channels = dataset["image_size"], dataset["channels"]
    if threat.norm == "l2" and side is not None and channels is not None:
        largest = (channels * side * side) ** 0.5
        if threat.eps > largest:
            raise UserError(
                f"threat.eps={threat.eps:g} is larger than the pixel range: no two images of "
                f"{channels} x {side} x {side} pixels in [0, 1] are more than {largest:.3g} apart "
                "in L2; give a smaller threat.eps"
            )


def _refuse_inner_certifier(attack: partial[Any]) -> None:
    """Refuse a certifier where examples are needed: inside transfer or worst_of."""
    members = {"inner": attack.keywords.get("inner")}
    attacks = attack.keywords.get("attacks")
    if isinstance(attacks, dict):  # worst_of's, by name; autoattack's are names of its parts
        members |= {f"attacks.{name}": member for name, member in attacks.items()}
    for name, member in members.items():
        if member is not None and proves(member):
            raise UserError(
                f"attack.{name}={member.func.__name__} proves and makes no examples: give an "
                "attack there, such as pgd, and certify by itself: attack=certify_ibp, …"
            )


def _try_quantizer(options: dict[str, Any]) -> None:
    """Quantize an untrained network, so that a layer that cannot be is named before training."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None:
        return
    from advprune.quantizers.int8 import Int8

    net = build(method_options("quantizer", quantizer))(untrained_network(options))
    if quantizer["runs"] == "int8" or options.get("sizes"):
        Int8(net)


def _try_pruner(options: dict[str, Any], net: nn.Module) -> None:
    """Check the pruner's options, spend its ratio, and score with its criterion."""
    pruner, criterion = options["pruner"], options["pruner"]["criterion"]
    if criterion is not None and "_target_" not in criterion:
        raise UserError(
            "pruner.criterion names no function: choose one with pruner=…, or pruner/criterion=… "
            "of filters"
        )
    unread_options.check(options, untrained_network)
    dry_run_calls.check_start(options)
    if pruner["recovery"] == "rewind":
        _check_rewinding(options)
    ratio = options["ratio"]
    if options.get("compression") is not None or pruner["classifier"] is False:
        ratio = masking.target_ratio(untrained_network(options), options)
    if options.get("dense") is not None and pruner["unit"] is None:
        sparse_parent.check(_network_from_file(options), pruner, ratio)
    cumulative(ratio, schedule=pruner["schedule"], rounds=pruner["rounds"])
    phase = of_phase(options["objective"], "search" if pruner["search"] else "finetune")
    pruning_phases.check(options, factories.objective({"objective": phase}))
    if criterion is not None:
        dry_run_calls.try_criterion(options, net)
    if pruner["unit"] is not None:
        dry_run_structured.check(options, untrained_network(options), ratio)


def _network_from_file(options: dict[str, Any]) -> nn.Module:
    """Return the job's network with the weights that it starts from."""
    net, path = untrained_network(options), Path(options["dense"])
    checkpoint.shape_like(net, foreign.read(path), path.parent)
    foreign.load(net, path)
    return net


def _check_rewinding(options: dict[str, Any]) -> None:
    """Refuse to rewind where the early weights would be the initial ones."""
    epochs = options["training"]["epochs"]
    objective = factories.objective({"objective": of_phase(options["objective"], None)})
    if early_pass(pruning_phases.passes(epochs, objective)) == 0:
        least = next(n for n in range(1, 1000) if early_pass(pruning_phases.passes(n, objective)))
        raise UserError(
            "pruner.recovery=rewind goes back to a tenth of the dense training, and of "
            f"training.epochs={epochs} that is no epoch: give training.epochs={least} or more, or "
            "pruner.recovery=scratch"
        )
