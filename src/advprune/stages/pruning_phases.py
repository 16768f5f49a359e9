"""Train inside the stage ``pruned``: a process that prunes meanwhile, and what it starts from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from advprune.config.stage_options import Pruned, Scored
from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.masks import Masks
from advprune.modules.filter_masks import SpendOnFilters
from advprune.modules.pruner_training import PrunerTraining, ScoringBatches
from advprune.modules.remembered_attack import Objective
from advprune.modules.shrinking import Shrinking
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import (
    KeepBest,
    load_masks,
    load_weights,
    plain_weights,
    save_weights,
)
from advprune.pruners import masking
from advprune.pruners.process import Process
from advprune.pruners.task import Task
from advprune.stages import checkpoint
from advprune.stages.checkpoint import taught
from advprune.stages.training_phase import RunContext, fit
from advprune.store.stage import Stage
from advprune.surgery import structure
from advprune.surgery.subnet import apply


def start(stage: Stage[Pruned] | Stage[Scored], folder: Path, parent: Path) -> nn.Module:
    """Return the network that is pruned: the dense one, its early weights, or an untrained one.

    Args:
        stage: that prunes it, or scores it.
        folder: of the stage.
        parent: folder of the dense network.

    Raises:
        UserError: if single weights are to go from a network that has lost filters or blocks.
    """
    pruner, seed = stage.options.pruner, stage.options.training.seed
    if pruner.unit is None and (parent / structure.FILE).exists():
        raise UserError(
            "the dense network of this job has lost filters or blocks, and single weights of such "
            "a network are not pruned here: choose pruner=filters or pruner=blocks, or another "
            "dense network"
        )
    if pruner.start == "dense":
        return checkpoint.load_network(stage, parent, seed=seed)
    net = checkpoint.network(checkpoint.network_of(stage), seed=seed)
    if pruner.start == "early":
        net.load_state_dict(checkpoint.early_weights(stage, folder))
    return net


def task_of(net: nn.Module, options: Pruned, ratios: list[float], within: Masks | None) -> Task:
    """Return what a process is asked for.

    Args:
        net: the network that is pruned.
        options: of the stage.
        ratios: shares removed, one a round.
        within: masks of what a network that was sparse before has left; None: of all.
    """
    pruner = options.pruner
    return Task(
        ratio=ratios[-1],
        spend=masking.spend(pruner),
        names=tuple(masking.removable(net, pruner)),
        seed=options.training.seed,
        ratios=tuple(ratios),
        within=within,
        group=pruner.m,
        through=pruner.through,
    )


def process_of(
    net: nn.Module, options: Pruned, ratios: list[float], shrinking: Shrinking | None
) -> Process:
    """Return the process that prunes a network.

    Args:
        net: the network that is pruned.
        options: of the stage.
        ratios: shares removed, one a round.
        shrinking: where filters go; a process that can spends the ratio on whole ones.
    """
    assert options.pruner.process is not None
    make, task = options.pruner.process.build(), task_of(net, options, ratios, None)
    if shrinking is not None and make.func.prunes_filters:
        task = replace(task, spend=SpendOnFilters(shrinking))
    process: Process = make(net, task)
    return process


def learn(
    stage: Stage[Pruned],
    net: nn.Module,
    process: Process,
    folder: Path,
    where: RunContext,
    *,
    within: Masks | None = None,
    passes: int,
) -> tuple[Masks, dict[str, Any]]:
    """Train with a process; leave its weights in ``net``, and return its masks and what it tells.

    Rank 0 alone returns from it.

    Args:
        stage: with the options of the training.
        net: the network that the process was made for.
        process: that prunes it.
        folder: of the stage; checkpoints are in its ``work``.
        where: the job runs.
        within: masks of what a network that was sparse before has left; None: of all.
        passes: over the images.
    """
    training = stage.options.training
    recipe, final = training.recipe, stage.options.pruner.recovery == "none"
    assert recipe is not None
    module = PrunerTraining(
        net,
        taught(training.objective.build(), stage, folder),
        recipe,
        attack=training.validation_attack(),
        seed=training.seed,
        process=process,
        batches=ScoringBatches(training.data(batch_size=128), net),
        fixed=within,
    )
    best = KeepBest(folder / "best.safetensors", training.select.metric, masks=folder / BEST_MASKS)
    callbacks = [best] if final else []
    train(stage, module, folder / "work", where, passes=passes, callbacks=callbacks)
    collectives.rank_zero_continues()
    module.cpu().eval()
    masks, facts = module.finish(), process.result()
    with torch.no_grad():
        for name, value in process.final_weights().items():
            net.get_parameter(name).copy_(value)
    return _selected(net, masks, best, stage, folder, facts) if final else (masks, facts)


#: The masks of the best epoch, which later ones may have changed.
BEST_MASKS = "best_masks.safetensors"


def _selected(
    net: nn.Module,
    masks: Masks,
    best: KeepBest,
    stage: Stage[Pruned],
    folder: Path,
    facts: dict[str, Any],
) -> tuple[Masks, dict[str, Any]]:
    """Put the selected epoch's weights into ``net``: no fine-tuning follows that would choose."""
    apply(net, masks)
    save_weights(folder / "last.safetensors", plain_weights(net))
    choice = best.choice(stage.options.training.select.keep)
    if choice["kept"] == "best":
        net.load_state_dict(load_weights(folder / "best.safetensors"))
        masks = load_masks(folder / BEST_MASKS)
    return masks, facts | choice


def train(
    stage: Stage[Pruned],
    module: RobustTraining,
    work: Path,
    where: RunContext,
    *,
    passes: int,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train one phase of the stage ``pruned``, from the checkpoint in ``work`` if there is one."""
    training = stage.options.training
    datamodule = training.data(
        batch_size=module.recipe.batch_size, repeats=replays(module.objective)
    )
    fit(where, module, datamodule, work, epochs=passes, callbacks=list(callbacks))


def replays(objective: Objective) -> int:
    """Return how often an objective trains on each batch in one pass over the images."""
    return int(getattr(objective, "replays", 1))


def passes(epochs: int, objective: Objective) -> int:
    """Return the passes over the images that take as long as ``epochs`` of another objective."""
    return round(epochs / replays(objective))


def passes_between_rounds(options: Pruned) -> int:
    """Return the passes over the images between two rounds of this stage; 0 of one round alone."""
    if not options.pruner.trains_between:
        return 0
    return passes(options.pruner.epochs_per_round, options.training.objective.build())


def passes_of_process(options: Pruned) -> int:
    """Return the passes over the images of a process."""
    assert options.training.recipe is not None
    return max(passes(options.training.recipe.epochs, options.training.objective.build()), 1)
