"""Make the stage ``dense``: the unpruned parent, trained or read from a file."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from advprune.distributed import collectives
from advprune.masks import prunable, sparsity
from advprune.models import foreign
from advprune.modules.callbacks import KeepBest, KeepEarly, plain_weights
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import load_weights, save_weights
from advprune.stages import checkpoint, factories, image_checks, pruning_phases
from advprune.stages.training_phase import RunContext, fit
from advprune.store.stage import Stage
from advprune.surgery import structure

#: Share of the epochs after which weights are kept for rewinding (Frankle et al. 2020,
#: https://arxiv.org/abs/1912.05671).
EARLY = 0.1


def early_pass(passes: int) -> int:
    """Return the pass after which early weights are kept; 0 for the initial ones."""
    return round(EARLY * passes)


def make(stage: Stage, folder: Path, parent: Path | None, where: RunContext) -> dict[str, Any]:
    """Train the dense network, or load the foreign weights; write ``model.safetensors``."""
    del parent
    options = stage.options
    if "weights" in options:
        collectives.rank_zero_continues()
        net = factories.network(options, seed=0)
        loaded = _foreign(net, Path(options["weights"]), folder)
        save_weights(folder / "model.safetensors", plain_weights(net))
        share = sparsity(prunable(net)).overall
        # of the weights as they came: nobody else knows it
        result = {
            "sparsity": share,
            "zeros": share,
        }
        return result | {
            "foreign": Path(options["weights"]).name,
            "sha256": options["sha256"],
            **asdict(loaded),
        }
    passes = pruning_phases.passes(options["training"]["epochs"], factories.objective(options))
    early = KeepEarly(folder / "early.safetensors", early_pass(passes))
    net = factories.network(options, seed=options["seed"])
    return train(net, stage, folder, where, "dense", options["training"], callbacks=[early])


def _foreign(net: Any, path: Path, folder: Path) -> foreign.Loaded:
    """Load foreign weights strictly, into a smaller network if a ``structure.json`` says so."""
    if checkpoint.shape_like(net, foreign.read(path), path.parent):
        structure.load(path.with_name(structure.FILE)).save(folder / structure.FILE)
    return foreign.load(net, path)


def train(
    net: Any,
    stage: Stage,
    folder: Path,
    where: RunContext,
    title: str,
    recipe_options: dict[str, Any],
    *,
    callbacks: list[Any],
    start: float = 0.0,
) -> dict[str, Any]:
    """Train ``net`` by a recipe; write last and best weights, and the selected as the model.

    Rank 0 alone returns from it.

    Args:
        net: dense or a ``Subnet``.
        stage: with data, objective and selection.
        folder: of the stage.
        where: the job runs.
        title: of the phase, shown beside its progress.
        recipe_options: of the phase, plain values.
        callbacks: beside those of every training.
        start: share of the schedule that is skipped, in [0, 1).

    Returns:
        The facts for the result.
    """
    options, recipe = stage.options, factories.recipe(recipe_options)
    goal = factories.objective(options)
    replays = getattr(goal, "replays", 1)
    epochs = max(round((1 - start) * recipe.epochs / replays), 1)
    module = RobustTraining(
        net,
        goal,
        recipe,
        attack=factories.validation_attack(options),
        seed=options["seed"],
        start=start,
    )
    best = KeepBest(folder / "best.safetensors", options["select"]["metric"])
    datamodule = factories.data(options, batch_size=recipe.batch_size, repeats=replays)
    image_checks.check_choice(options["select"]["keep"], datamodule.sizes["val"])
    fit(
        where,
        module,
        datamodule,
        folder / "work",
        f"{title} {stage.key}",
        epochs=epochs,
        callbacks=[best, *callbacks],
    )
    facts = where.facts(training=True)
    collectives.rank_zero_continues()
    save_weights(folder / "last.safetensors", plain_weights(module.net))
    kept = options["select"]["keep"]
    save_weights(folder / "model.safetensors", load_weights(folder / f"{kept}.safetensors"))
    return facts | {
        "kept": kept,
        "best": best.best,
        "last": best.last,
        "validation": best.best if kept == "best" else best.last,
    }
