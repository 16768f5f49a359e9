"""Make and try every object of a job once, before any data is read or anything is trained.

What takes images is called on two random ones. ``dry_run_pruner.py`` spends the pruner's ratio on
the untrained network.
"""

import copy
import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.config.groups import Objective
from advprune.config.options import Options
from advprune.datasets.images import subset
from advprune.errors import UserError
from advprune.frozen import preserve_rng
from advprune.logits import check
from advprune.pipeline import dry_run_pruner
from advprune.stages import checkpoint
from advprune.stages.dense import check_choice
from advprune.surgery import export
from advprune.threat import Certificate, Threat, proves

#: A batch of the smallest size that is one.
IMAGES = 2
#: The linear stand-in sees images averaged to this many cells a side: of ImageNet's pixels it would
#: have 150 million weights.
CELLS = 8


def dry_run(options: Options) -> None:
    """Make everything that needs no data, and drop it again.

    Args:
        options: of the job, their signatures checked.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    net = checkpoint.network(options.model, seed=0)
    check_training(options, net)
    attack = _make_attack(options)
    _try_attack(attack, options)
    _try_objectives(options)
    if options.attack.images is not None:
        _count_images(options, options.attack.images)
    _try_network(options, net)
    if options.export == "onnx":
        export.check_packages()
    _try_bounds(options, net)
    _try_certifier(attack, options)
    _try_quantizer(options)
    if options.pruner is not None:
        dry_run_pruner.check(options, options.pruner, net, _random_batch(options))


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


def _make_attack(options: Options) -> partial[Any]:
    """Make both threats and the attack, and return the attack."""
    for threat in (options.threat, options.evaluation_threat):
        _check_radius(threat.build(), options)
    attack: partial[Any] = options.attack.build()
    _refuse_inner_certifier(attack)
    if "variant" in options.attack.method and options.quantizer is None:
        raise UserError(
            f"attack.variant={options.attack.node['variant']} is of a quantized network, and this "
            "one is not: give quantizer=ptq_static or another, or attack=pgd"
        )
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


def _try_attack(attack: partial[Any], options: Options) -> None:
    """Attack a linear stand-in for the network, on two images that it has wrong already."""
    inner = attack.keywords.get("inner") or attack  # of a transfer attack: what its source meets
    if proves(inner) or "root" in getattr(inner, "keywords", {}):  # the latter reads its own images
        return
    net, (x, y) = _linear_network(options), _random_batch(options)
    takes_positions = "positions" in inspect.signature(inner).parameters
    positions = {"positions": torch.arange(len(y))} if takes_positions else {}
    with preserve_rng():
        inner(net, x, net(x).argmin(1), **positions)


def _try_objectives(options: Options) -> None:
    """Take the loss of two images in every phase of the job, but for objectives with bounds."""
    for phase, objective in _objectives(options):
        goal = objective.build()
        if "bound" in objective.method:
            return
        if phase is None and options.weights is None:
            checkpoint.refuse_without_teacher(goal)
        with preserve_rng():
            x, y = _random_batch(options)
            net = _linear_network(options)
            goal = partial(goal, teacher=net) if checkpoint.wants_teacher(goal) else goal
            goal(net, x, y, progress=0.0)


def _objectives(options: Options) -> list[tuple[str | None, Objective]]:
    """Return each phase with its objective; of phases with the same one, the first alone."""
    each = [(phase, options.objective.in_phase(phase)) for phase in options.phases]
    nodes = [objective.node for _, objective in each]
    return [pair for place, pair in enumerate(each) if nodes[place] not in nodes[:place]]


def _count_images(options: Options, count: int) -> None:
    """Refuse to attack more test images than the data set has."""
    data = options.dataset.build(seed=options.seed, batch_size=1)
    subset(data.test_count, count, option="attack.images")


def _try_network(options: Options, net: nn.Module) -> None:
    """Call the untrained network on two images of the data set's size."""
    x, _ = _random_batch(options)
    try:
        with torch.no_grad():
            logits = net.eval()(x)
    except RuntimeError as error:
        side = options.dataset.image_size
        raise UserError(
            f"this {type(net).__name__} cannot take images of {side} x {side} pixels "
            f"({str(error).splitlines()[0]}): choose another model, or other options of it"
        ) from error
    check(logits, images=IMAGES, classes=int(options.model.node["num_classes"]))


def _try_bounds(options: Options, untrained: nn.Module) -> None:
    """Bound no image, and take the loss of two, in every phase with bounds or noise."""
    for _, chosen in _objectives(options):
        if "bound" not in chosen.method and "sigma" not in chosen.method:
            return
        objective, net = chosen.build(), copy.deepcopy(untrained).train()
        x, y = torch.rand(IMAGES, *options.model.image_shape), torch.zeros(IMAGES).long()
        if "bound" in chosen.method:  # reading the network may fail; bounding images takes minutes
            classes = objective.keywords["bound"](net, x[:0], y[:0]).shape[1]
            objective = partial(objective, bound=partial(_no_bound, classes=classes))
        for progress in (0.0, 0.99):
            objective(net, x, y, progress=progress)


def _no_bound(model: nn.Module, x: Tensor, *_: object, classes: int, **__: object) -> Tensor:
    return torch.zeros(len(x), classes)


def _try_certifier(attack: partial[Any], options: Options) -> None:
    """Ask a certifier for the certificates of no image: it checks its options and the network."""
    if inspect.signature(attack).return_annotation is Certificate:
        x, y = torch.rand(0, *options.model.image_shape), torch.zeros(0).long()
        attack(checkpoint.network(options.model, seed=0).eval(), x, y, positions=y)


def _try_quantizer(options: Options) -> None:
    """Quantize an untrained network, so that a layer that cannot be is named before training."""
    if options.quantizer is None:
        return
    from advprune.quantizers.int8 import Int8

    quantize = options.quantizer.method.build()
    net = quantize(checkpoint.network(options.model, seed=0))
    if options.quantizer.runs == "int8" or options.sizes:
        Int8(net)


def _random_batch(options: Options) -> tuple[Tensor, Tensor]:
    """Return two images of random pixels, and two labels."""
    levels = torch.randint(256, (IMAGES, *options.model.image_shape))
    return levels.float() / 255, torch.arange(IMAGES)


def _linear_network(options: Options) -> nn.Module:
    torch.manual_seed(0)
    channels, side, _ = options.model.image_shape
    cells, classes = min(side, CELLS), int(options.model.node["num_classes"])
    linear = nn.Linear(channels * cells * cells, classes)
    return nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Flatten(), linear).eval()
