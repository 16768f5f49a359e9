"""Spend a pruner's ratio on the untrained network and score it once, for the dry run."""

import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advprune.config.groups import Pruner
from advprune.config.options import Options
from advprune.config.rules import check_pruner
from advprune.config.stage_options import Pruned
from advprune.errors import UserError
from advprune.frozen import preserve_rng
from advprune.models import foreign
from advprune.models.checkpoints.candidates import Declared
from advprune.modules import optim
from advprune.modules.perturb import targets_of
from advprune.modules.pruner_training import NOTHING_VALIDATES, PrunerTraining
from advprune.modules.recipe import Recipe
from advprune.modules.remembered_attack import Objective
from advprune.modules.shrinking import Shrinking
from advprune.pipeline import dry_run_structured
from advprune.pipeline.steps import pruned
from advprune.pruners import masking, sparse_parent
from advprune.pruners.process import Process
from advprune.pruners.task import cumulative
from advprune.stages import checkpoint, pruning_phases
from advprune.stages.dense import early_pass
from advprune.surgery import structure


def check(options: Options, pruner: Pruner, net: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Check the pruner's options, spend its ratio, and score with its criterion.

    Args:
        options: of the job.
        pruner: its options.
        net: the untrained network.
        batch: two images (2, C, H, W) in [0, 1] and their labels (2,), to score on.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    _check_unit(pruner)
    check_pruner(pruner)
    _check_recovery(options, pruner)
    chosen = pruned.describe(options, None).options
    ratio = options.ratio
    if options.compression is not None or pruner.classifier is False:
        ratio = masking.target_ratio(net, chosen)
    assert ratio is not None
    if options.dense is not None and pruner.unit is None:
        sparse_parent.check(_network_from_file(options, options.dense), pruner, ratio)
    ratios = cumulative(ratio, schedule=pruner.schedule, rounds=pruner.rounds)
    recipe = chosen.training.recipe
    _check_rounds(pruner, recipe or options.search, chosen.training.objective.build())
    if pruner.criterion is not None:
        _try_criterion(pruner, net, batch, ratios)
    if pruner.process is None or pruner.start == "init":
        _refuse_unread_perturbation(options)
    if pruner.process is not None:
        _try_process(options, chosen, ratios, copy.deepcopy(net))
    if pruner.unit is not None:
        dry_run_structured.try_choice(options, pruner, ratio, net)


def _check_recovery(options: Options, pruner: Pruner) -> None:
    """Refuse early weights where there are none, or they would be the initial ones."""
    if pruner.start == "init" and options.dense is not None:
        raise UserError(
            f"pruner.start=init trains a new network, and dense={options.dense} would not be "
            "looked at: leave dense out, or give pruner.start=dense"
        )
    if pruner.recovery != "rewind" and pruner.start != "early":
        return
    if options.dense is not None:
        raise UserError(checkpoint.NO_EARLY_WEIGHTS)
    rewinds = pruner.recovery == "rewind"
    wanted = "pruner.recovery=rewind" if rewinds else "pruner.start=early"
    other = "pruner.recovery=scratch" if rewinds else "pruner.start=init"
    epochs, objective = options.training.epochs, options.objective.in_phase(None).build()
    if early_pass(pruning_phases.passes(epochs, objective)) == 0:
        least = next(n for n in range(1, 1000) if early_pass(pruning_phases.passes(n, objective)))
        raise UserError(
            f"{wanted} goes back to a tenth of the dense training, and of "
            f"training.epochs={epochs} that is no epoch: give training.epochs={least} or more, or "
            f"{other}"
        )


def _network_from_file(options: Options, file: str) -> nn.Module:
    """Return the job's network with the weights that it starts from."""
    net, path = checkpoint.network(options.model, seed=0), Path(file)
    if options.layout is None:
        structure.cut(net, foreign.read(path), path.parent)
    foreign.load(net, path, Declared(options.layout))
    return net


def _refuse_unread_perturbation(options: Options) -> None:
    """Refuse to perturb a search that there is not."""
    what = options.search.perturb.what
    if what is not None:
        raise UserError(
            f"search.perturb.what={what.value} is not looked at: this pruner has no search of its "
            "own; leave it null, or choose one that has, such as pruner=hydra"
        )


def _try_criterion(
    pruner: Pruner, net: nn.Module, batch: tuple[Tensor, Tensor], ratios: list[float]
) -> None:
    """Score without the criterion's own attack, and spend the first and the last ratio on it."""
    assert pruner.criterion is not None
    criterion: partial[Any] = pruner.criterion.build()
    structured = "sites" in inspect.signature(criterion).parameters
    if structured != (pruner.unit is not None):
        scored, unit = (
            ("filters or blocks", "filters") if structured else ("single weights", "null")
        )
        raise UserError(
            f"pruner.unit={pruner.unit or 'null'} does not fit {pruner.criterion.name}, which "
            f"scores {scored}: give pruner.unit={unit}, or another criterion"
        )
    if structured:
        return
    if "attack" in criterion.keywords:
        criterion = partial(criterion, attack=None)
    with preserve_rng():
        scores = masking.scores_of(criterion, net.eval(), [batch], pruner)
        for ratio in {ratios[0], ratios[-1]}:
            masking.masks_of(scores, pruner, ratio, None)


def _check_unit(pruner: Pruner) -> None:
    """Refuse to remove filters or blocks by a process that knows single weights alone."""
    if pruner.process is None or pruner.unit is None:
        return
    if "_target_" not in pruner.process:
        raise UserError(
            "pruner.process names no method: choose one with pruner=NAME, or give "
            "pruner.process=null"
        )
    kind = pruner.process.build().func
    ranks_filters = kind.prunes_filters or kind.scores is not Process.scores
    if pruner.unit != "filters" or not ranks_filters:
        what = "filters" if ranks_filters else "single weights"
        raise UserError(
            f"pruner.unit={pruner.unit} is not possible: {pruner.process.name} prunes {what} "
            "alone; give pruner.unit=null, or pruner=hydra_filters, which removes filters"
        )


def _try_process(options: Options, chosen: Pruned, ratios: list[float], net: nn.Module) -> None:
    """Make the process and its training, spend the first and the last ratio, and ask it."""
    pruner, recipe = chosen.pruner, chosen.training.recipe
    assert recipe is not None
    shape = options.model.image_shape
    shrinking = Shrinking(net, pruner, shape) if pruner.unit == "filters" else None
    process = pruning_phases.process_of(net, chosen, ratios, shrinking)
    sizes = {name: torch.zeros_like(weight) for name, weight in process.weights.items()}
    for ratio in {ratios[0], ratios[-1]}:
        process.task.masks(sizes, ratio)
    if pruner.scope != "global" and not process.follows_scope:
        raise UserError(
            f"pruner.scope={pruner.scope} is not looked at: {type(process).__name__} lets weights "
            "move from layer to layer, and keeps their total; give pruner.scope=global"
        )
    _check_scope_and_factors(pruner, process)
    if process.measures_training and options.dataset.node.get("validation") == 0:
        raise UserError(NOTHING_VALIDATES)
    module = PrunerTraining(
        net, chosen.training.objective.build(), recipe, attack=None, seed=0, process=process
    )
    if recipe.perturb.what is not None:
        targets_of(module.net, recipe.perturb.what)
    optimizer = optim.optimizer(recipe, module.trained())
    process.check(pruning_phases.passes_of_process(chosen), optimizer)


def _check_scope_and_factors(pruner: Pruner, process: Process) -> None:
    """Refuse columns where single weights come and go, and factors that would not train."""
    name = type(process).__name__
    if pruner.scope == "columns" and not process.masks_by_scope:
        raise UserError(
            f"pruner.scope=columns is not possible: {name} keeps and removes single weights; give "
            "pruner.scope=layer, or pruner=radmm_columns"
        )
    if pruner.through is not None and not process.reparametrises:
        raise UserError(
            f"pruner.through={pruner.through} is not possible: {name} trains no dense weights that "
            "factors could compose; leave it null, or give pruner=twin_rep or radmm"
        )


def _check_rounds(pruner: Pruner, recipe: Recipe, objective: Objective) -> None:
    """Refuse rounds that would get no epoch, or a part of one."""
    times, rounds, epochs = (
        pruning_phases.replays(objective),
        pruner.rounds,
        pruner.epochs_per_round,
    )
    if pruner.schedule == "one_shot":
        return
    if pruner.process is not None:
        if pruning_phases.passes(recipe.epochs, objective) < rounds:
            raise UserError(
                f"pruner.rounds={rounds} share "
                f"search.epochs={recipe.epochs}{_replayed(times)}, which is less "
                f"than one for each: give search.epochs={rounds * times} or more, or fewer rounds"
            )
        return
    if epochs < 0:
        raise UserError(
            f"pruner.epochs_per_round={epochs} is not possible: give 0, which trains nothing, or "
            "more"
        )
    if epochs % times:
        low, high = epochs - epochs % times, epochs + times - epochs % times
        raise UserError(
            f"pruner.epochs_per_round={epochs} is no whole number of passes{_replayed(times)}: "
            f"give {low}{', which trains nothing between rounds,' if not low else ''} or {high}"
        )


def _replayed(times: int) -> str:
    return (
        f", where each pass over the images counts as {times} epochs (objective.replays={times})"
        if times > 1
        else ""
    )
