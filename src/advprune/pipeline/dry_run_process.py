"""Make a pruner's process on the untrained network, for the dry run, and ask what it can do."""

import torch
from torch import nn

from advprune.config.groups import Pruner
from advprune.config.stage_options import Pruned
from advprune.errors import UserError
from advprune.modules import optim
from advprune.modules.perturb import targets_of
from advprune.modules.pruner_training import NOTHING_VALIDATES, PrunerTraining
from advprune.modules.shrinking import Shrinking
from advprune.pruners.learned_scores import NORMS
from advprune.pruners.process import Process
from advprune.stages import pruning_phases


def check(
    options: Pruned, net: nn.Module, ratios: list[float], shape: tuple[int, int, int]
) -> None:
    """Refuse what the process cannot do.

    Args:
        options: of the stage.
        net: an untrained network, which is spent.
        ratios: shares removed, one a round.
        shape: (C, H, W) of its images.

    Raises:
        UserError: what would otherwise be raised after the dense network was trained.
    """
    pruner, recipe = options.pruner, options.training.recipe
    assert pruner.process is not None
    assert recipe is not None
    shrinking = Shrinking(net, pruner, shape) if pruner.unit == "filters" else None
    process = pruning_phases.process_of(net, options, ratios, shrinking)
    sizes = {name: torch.zeros_like(weight) for name, weight in process.weights.items()}
    for ratio in {ratios[0], ratios[-1]}:
        process.task.masks(sizes, ratio)
    _check_options(pruner, pruner.process.name, process)
    _check_normalisation(process, net)
    if process.measures_training and options.training.dataset.node.get("validation") == 0:
        raise UserError(NOTHING_VALIDATES)
    module = PrunerTraining(
        net, options.training.objective.build(), recipe, attack=None, seed=0, process=process
    )
    if recipe.perturb.what is not None:
        targets_of(module.net, recipe.perturb.what)
    optimizer = optim.optimizer(recipe, module.trained())
    process.check(pruning_phases.passes_of_process(options), optimizer)


def check_unit(pruner: Pruner) -> None:
    """Refuse to remove filters or blocks by a process that knows single weights alone.

    Raises:
        UserError: naming one that removes filters.
    """
    if pruner.process is None or pruner.unit is None:
        return
    kind = pruner.process.build().func
    ranks_filters = kind.prunes_filters or kind.scores is not Process.scores
    if pruner.unit != "filters" or not ranks_filters:
        what = "filters" if ranks_filters else "single weights"
        raise UserError(
            f"pruner.unit={pruner.unit} is not possible: {pruner.process.name} prunes {what} "
            "alone; give pruner.unit=null, or pruner=hydra_filters, which removes filters"
        )


def _check_options(pruner: Pruner, name: str, process: Process) -> None:
    """Refuse options that the process does not read."""
    if pruner.schedule != "one_shot" and not process.takes_rounds:
        raise UserError(
            f"pruner.schedule={pruner.schedule} is not looked at: {name} has no rounds; give "
            "pruner.schedule=one_shot"
        )
    if pruner.scope != "global" and not process.follows_scope:
        raise UserError(
            f"pruner.scope={pruner.scope} is not looked at: {name} lets weights move from layer to "
            "layer, and keeps their total; give pruner.scope=global"
        )


def _check_normalisation(process: Process, net: nn.Module) -> None:
    """Refuse an option of BatchNorm where there is none."""
    chosen = getattr(process, "bn", "train")
    if chosen != "train" and not any(isinstance(module, NORMS) for module in net.modules()):
        raise UserError(
            f"pruner.process.bn={chosen} is not looked at: this network has no normalisation; "
            "leave it at train"
        )
