"""Make the stage ``dense``: the unpruned parent, trained or read from a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import nn

from advprune.config.stage_options import Dense, Training, Weights
from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.models import foreign
from advprune.models.checkpoints.candidates import Declared
from advprune.modules.remembered_attack import Objective
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import (
    KeepBest,
    KeepEarly,
    load_weights,
    plain_weights,
    save_weights,
)
from advprune.report.data.file_audit import audit
from advprune.stages import checkpoint, pruning_phases
from advprune.stages.training_phase import RunContext, fit
from advprune.store.stage import Stage
from advprune.surgery import structure

#: Share of the epochs after which weights are kept for rewinding (Frankle et al. 2020,
#: https://arxiv.org/abs/1912.05671).
EARLY = 0.1


def early_pass(passes: int) -> int:
    """Return the pass after which early weights are kept; 0 for the initial ones."""
    return round(EARLY * passes)


def make(
    stage: Stage[Dense], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Train the dense network, or load the foreign weights; write ``model.safetensors``."""
    del parent
    model, training = stage.options.model, stage.options.training
    if training is None:
        return _read(stage.options, folder)
    assert training.recipe is not None
    passes = pruning_phases.passes(training.recipe.epochs, training.objective.build())
    early = KeepEarly(folder / "early.safetensors", early_pass(passes))
    net = checkpoint.network(model, seed=training.seed)
    return train(net, training, folder, where, callbacks=[early])


def _read(options: Dense, folder: Path) -> dict[str, Any]:
    """Load foreign weights, and write them as this stage's."""
    weights = options.weights
    assert weights is not None
    collectives.rank_zero_continues()
    net = checkpoint.network(options.model, seed=0)
    loaded = _foreign(net, weights, folder)
    save_weights(folder / "model.safetensors", plain_weights(net))
    counted = audit(net, options.model.image_shape, weights)
    return {
        **counted,
        "foreign": weights.label,
        "sha256": weights.sha256,
        "notes": loaded.notes,
        "doubts": loaded.doubts + counted["doubts"],
    }


def _foreign(net: nn.Module, weights: Weights, folder: Path) -> foreign.Loaded:
    """Load foreign weights strictly, into a smaller network if a ``structure.json`` says so."""
    path = Path(weights.path)
    if weights.layout is None and structure.cut(net, foreign.read(path), path.parent):
        structure.load(path.with_name(structure.FILE)).save(folder / structure.FILE)
    return foreign.load(net, path, Declared(weights.layout, weights.ratio))


def check_choice(keep: str, images: int) -> None:
    """Check that there are images to choose the best epoch by.

    Raises:
        UserError: if the best is to be kept and no image validates.
    """
    if keep == "best" and not images:
        raise UserError(
            "no image validates (dataset.validation), so that the best epoch is not known: give "
            "select.keep=last, or hold images out, such as dataset.validation=0.1"
        )


def train(
    net: nn.Module,
    training: Training,
    folder: Path,
    where: RunContext,
    *,
    callbacks: Sequence[Callback] = (),
    start: float = 0.0,
    goal: Objective | None = None,
) -> dict[str, Any]:
    """Train ``net`` by a recipe; write last and best weights, and the selected as the model.

    Rank 0 alone returns from it.

    Args:
        net: dense or a ``Subnet``.
        training: with data, objective, recipe and selection.
        folder: of the stage.
        where: the job runs.
        callbacks: beside those of every training.
        start: share of the schedule that is skipped, in [0, 1).
        goal: the objective with its teacher; None: the training's, which has none.

    Returns:
        The facts for the result.
    """
    recipe, select, goal = training.recipe, training.select, goal or training.objective.build()
    assert recipe is not None
    replays = getattr(goal, "replays", 1)
    epochs = max(round((1 - start) * recipe.epochs / replays), 1)
    module = RobustTraining(
        net,
        goal,
        recipe,
        attack=training.validation_attack(),
        seed=training.seed,
        start=start,
    )
    best = KeepBest(folder / "best.safetensors", select.metric)
    datamodule = training.data(batch_size=recipe.batch_size, repeats=replays)
    check_choice(select.keep, datamodule.sizes["val"])
    fit(where, module, datamodule, folder / "work", epochs=epochs, callbacks=[best, *callbacks])
    facts = where.facts(training=True)
    collectives.rank_zero_continues()
    save_weights(folder / "last.safetensors", plain_weights(module.net))
    choice = best.choice(select.keep)
    kept = load_weights(folder / f"{choice['kept']}.safetensors")
    save_weights(folder / "model.safetensors", kept)
    return facts | choice
