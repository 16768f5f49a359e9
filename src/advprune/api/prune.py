"""Prune a network in memory by any method of ``conf/pruner``, and fine-tune what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Lt
from torch import nn

from advprune.api import job
from advprune.api.network import check_arguments, count_classes, device_of, refuse_spent
from advprune.config.given import options_for
from advprune.config.options import Options
from advprune.datasets.batch_checks import Batches, images_and_labels
from advprune.errors import UserError
from advprune.masks import Masks
from advprune.modules.weights_io import load_masks
from advprune.pipeline.steps import dense, finetuned, pruned
from advprune.stages import checkpoint
from advprune.store.stage import Plan
from advprune.threat import Linf, Threat


@dataclass(frozen=True)
class PrunedNetwork:
    """Hold a pruned network, and what is known of it.

    Attributes:
        model: the network, in eval mode, on the device of the one that was given.
        masks: {parameter name: bool, True where a weight is kept}; {} where filters or blocks went.
        sparsity: the share that is gone, counted.
        result: all that the stage tells of itself, as in a store's ``result.json``.
    """

    model: nn.Module
    masks: Masks
    sparsity: float
    result: dict[str, Any]


def prune(
    net: nn.Module,
    batches: Batches,
    *,
    method: str = "hydra",
    ratio: Annotated[float, Ge(0), Lt(1)] = 0.99,
    objective: str = "trades",
    threat: Threat = Linf(8 / 255),  # noqa: B008 - a frozen value
    epochs: tuple[int, int] = (20, 100),
    validation: Batches = (),
    seed: int = 0,
    options: Sequence[str] = (),
) -> PrunedNetwork:
    """Prune a trained network and fine-tune it, as ``prune.py`` does.

    Args:
        net: from pixels in [0, 1] to logits; it stays as it is. A method that prunes while it
            trains from the start begins with its weights: give it an untrained one.
        batches: for training, (images (N, C, H, W) in [0, 1], labels (N,)) each; gone through once
            an epoch.
        method: a member of ``conf/pruner``.
        ratio: the share of prunable weights (or of parameters, for filters and blocks) removed.
        objective: a member of ``conf/objective``, minimised by the method and the fine-tuning.
        threat: the ball that training attacks within.
        epochs: of the method's own training, if it trains, and of fine-tuning.
        validation: batches that choose the best epoch; () keeps the last one.
        seed: of all that is random here; the order of the batches is the program's.
        options: further words of the command line, such as ``"pruner.scope=global"``.

    Raises:
        UserError: a sentence on what cannot be meant so, before anything is trained.
    """
    check_arguments(net, threat)
    if not isinstance(epochs, tuple | list) or len(epochs) != 2:
        raise UserError(
            f"epochs={epochs}: give two numbers, of the method's own training and of fine-tuning, "
            "such as (20, 100)"
        )
    refuse_spent(batches)
    first = next(iter(batches), None)
    if first is None:
        raise UserError("there is no batch: give at least one pair (images, labels)")
    x, y = images_and_labels(first)
    classes = count_classes(net, x, y)
    images_and_labels(first, classes=classes)
    with job.scratch() as folder:
        words = [
            f"pruner={method}",
            f"ratio={ratio}",
            f"objective={objective}",
            f"search.epochs={epochs[0]}",
            f"finetune.epochs={epochs[1]}",
            f"select.keep={'best' if any(True for _ in validation) else 'last'}",
            "pruner.start=dense",
            *job.words_of(threat, net, seed, folder),
            f"dense={job.saved(net, folder)}",
        ]
        chosen = options_for(
            "prune",
            [*words, *options],
            net=net,
            classes=classes,
            shape=tuple(x.shape[1:]),
            train=batches,
            held=validation,
        )
        return _pruned(chosen, net)


def _pruned(options: Options, net: nn.Module) -> PrunedNetwork:
    assert options.pruner is not None
    if options.pruner.recovery in ("rewind", "scratch"):
        raise UserError(
            f"pruner.recovery={options.pruner.recovery} needs the weights that the network began "
            'with, and they are not known here: give options=["pruner.recovery=finetune"]'
        )
    parent = dense.stage(options)
    last = (pruned >> finetuned).stage(options, parent)
    # the network alone: to attack it is ``evaluate``'s part
    store = job.make(options, Plan(parent, last, parent, last))
    folder, result = store.folder(last), store.result(last)
    model = checkpoint.load_network(last, folder).to(device_of(net))
    return PrunedNetwork(model, _masks(folder), result["sparsity"], result)


def _masks(folder: Path) -> Masks:
    path = folder / "masks.safetensors"
    return load_masks(path) if path.exists() else {}
