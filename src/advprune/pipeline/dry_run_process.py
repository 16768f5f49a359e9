"""Make a pruner's process on the untrained network, for the dry run, and ask what it can do."""

import torch
from torch import nn

from advprune.config.groups import Pruner
from advprune.config.stage_options import Pruned
from advprune.errors import UserError
from advprune.modules import optim
from advprune.modules.perturb import targets_of
from advprune.modules.pruner_training import PrunerTraining
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
    module = PrunerTraining(
        net, options.training.objective.build(), recipe, attack=None, seed=0, process=process
    )
    if recipe.perturb.what is not None:
        targets_of(module.net, recipe.perturb.what)
    optimizer = optim.optimizer(recipe, module.trained())
    process.check(pruning_phases.passes_of_process(options), optimizer)


def _check_options(pruner: Pruner, name: str, process: Process) -> None:
    """Refuse options that the process does not read."""
    if pruner.schedule != "one_shot" and not process.takes_rounds:
        raise UserError(
            f"pruner.schedule={pruner.schedule} is not looked at: {name} has no rounds; give "
            "pruner.schedule=one_shot"
        )
    if pruner.unit is not None and not (process.scores() or process.prunes_filters):
        raise UserError(
            f"pruner.unit={pruner.unit} is not possible: {name} prunes single weights alone; give "
            "pruner.unit=null, or pruner=hydra_filters"
        )


def _check_normalisation(process: Process, net: nn.Module) -> None:
    """Refuse an option of BatchNorm where there is none."""
    chosen = getattr(process, "bn", "train")
    if chosen != "train" and not any(isinstance(module, NORMS) for module in net.modules()):
        raise UserError(
            f"pruner.process.bn={chosen} is not looked at: this network has no normalisation; "
            "leave it at train"
        )
