"""Make and try every object of a job once, before any data is read or anything is trained.

``dry_run`` is the only entry. ``dry_run_calls.py`` calls what it makes on two random images, and
``dry_run_pruner.py`` spends the pruner's ratio on the untrained network.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from advprune.config.options import Options
from advprune.errors import UserError
from advprune.pipeline import dry_run_calls, dry_run_pruner
from advprune.stages import checkpoint
from advprune.stages.dense import check_choice
from advprune.surgery import export
from advprune.threat import Threat, proves


def dry_run(options: Options) -> None:
    """Make everything that needs no data, and drop it again.

    Args:
        options: of the job, their signatures checked.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    net = checkpoint.network(options.model, seed=0)
    check_training(options, net)
    attack = _try_attack(options)
    dry_run_calls.try_objectives(options)
    _check_image_count(options)
    dry_run_calls.try_network(options, net)
    if options.export == "onnx":
        export.check_packages()
    dry_run_calls.try_bounds(options)
    dry_run_calls.try_certifier(attack, options)
    _try_quantizer(options)
    if options.pruner is not None:
        dry_run_pruner.check(options, options.pruner, net)


def check_training(options: Options, net: nn.Module) -> None:
    """Check that the images suffice to train, and to choose the best epoch by.

    Args:
        options: of the job.
        net: the untrained network.

    Raises:
        UserError: naming the option and the cure.
    """
    if options.checkpoint is not None:  # nothing is trained
        return
    if options.dataset.node.get("validation") == 0:
        check_choice(options.select.keep, 0)
    recipes = {"training": options.training if options.dense is None else None}
    if options.pruner is not None:
        searches = options.pruner.process is not None
        recipes |= {
            "search": options.search if searches else None,
            "finetune": options.finetune if options.pruner.recovery != "none" else None,
        }
    single = [name for name, recipe in recipes.items() if recipe and recipe.batch_size == 1]
    if single and options.dataset.node.get("extra") is None:
        _train_on_one_image(options, net, single[0])


def _train_on_one_image(options: Options, net: nn.Module, phase: str) -> None:
    """Train on one image: BatchNorm may then see a single value a channel."""
    try:
        net.train()(torch.zeros(1, *options.model.image_shape))
    except ValueError as error:  # as torch says that a channel has one value
        raise UserError(
            f"{phase}.batch_size=1 is not possible with this network ({error}): give at least "
            "2, for its BatchNorm normalises by the images of a batch"
        ) from None


def _try_attack(options: Options) -> partial[Any]:
    """Make both threats and the attack, call the attack, and return it."""
    for threat in (options.threat, options.evaluation_threat):
        _check_radius(threat.build(), options)
    attack: partial[Any] = options.attack.build()
    _refuse_inner_certifier(attack)
    if "variant" in options.attack.method and options.quantizer is None:
        raise UserError(
            f"attack.variant={options.attack.node['variant']} is of a quantized network, and this "
            "one is not: give quantizer=ptq_static or another, or attack=pgd"
        )
    dry_run_calls.try_attack(attack, options)
    return attack


def _check_radius(threat: Threat, options: Options) -> None:
    """Refuse a Euclidean ball larger than the whole cube of pixels: it allows every image."""
    channels, side, _ = options.model.image_shape
    largest = (channels * side * side) ** 0.5
    if threat.norm == "l2" and threat.eps > largest:
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


def _check_image_count(options: Options) -> None:
    """Refuse to attack more test images than there are."""
    if options.attack.images is not None:
        dry_run_calls.count_images(options, options.attack.images)


def _try_quantizer(options: Options) -> None:
    """Quantize an untrained network, so that a layer that cannot be is named before training."""
    if options.quantizer is None:
        return
    from advprune.quantizers.int8 import Int8

    quantize = options.quantizer.method.build()
    net = quantize(checkpoint.network(options.model, seed=0))
    if options.quantizer.runs == "int8" or options.sizes:
        Int8(net)
