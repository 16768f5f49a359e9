"""Train inside the stage ``pruned``: learned scores, and fine-tuning between rounds."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune.config.groups import Pruner
from advprune.config.stage_options import Pruned
from advprune.errors import UserError
from advprune.masks import Masks, Scores
from advprune.modules.pruning import MaskSearch
from advprune.modules.recipe import Recipe
from advprune.modules.training import Objective, RobustTraining
from advprune.pruners import hydra
from advprune.stages import factories
from advprune.stages.training_phase import RunContext, fit
from advprune.store.stage import Stage


class ScoringBatches:
    """Yield training batches for a criterion, loaded only if it looks at them."""

    def __init__(self, datamodule: Any, device: Any) -> None:
        self.datamodule, self.device = datamodule, device

    def __iter__(self) -> Any:
        self.datamodule.setup("fit")
        self.datamodule.to(self.device)
        return iter(self.datamodule.train_dataloader())


def search(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    folder: Path,
    where: RunContext,
    *,
    within: Masks | None = None,
) -> MaskSearch:
    """Train scores (HYDRA), and return the module with the masks of the last ratio chosen.

    Args:
        stage: with the options of the search.
        net: the dense network.
        ratios: shares removed, one a round.
        folder: of the stage; checkpoints are in its ``work``.
        where: the job runs.
        within: masks of what a network that was sparse before has left; None: of all.
    """
    training, pruner = stage.options.training, stage.options.pruner
    recipe, goal, search_options = training.recipe, training.objective.build(), pruner.search
    assert recipe is not None
    assert search_options is not None
    module = MaskSearch(
        net,
        goal,
        recipe,
        attack=factories.validation_attack(training),
        seed=training.seed,
        scores=hydra.initial_scores(net, init=search_options.init, seed=training.seed),
        choose=lambda scores, ratio: hydra.masks_of(
            scores, ratio, pruner.scope, _to_device_of(within, scores)
        ),
        through=hydra.straight_through,
        ratios=ratios,
        bn=search_options.bn,
    )
    train(stage, module, recipe, folder / "work", where, passes=max(passes(recipe.epochs, goal), 1))
    module.ratio = ratios[-1]
    module.net.refresh()
    return module


def _to_device_of(masks: Masks | None, scores: Scores) -> Masks | None:
    """Move the masks to the scores' device."""
    return (
        None
        if masks is None
        else {name: masks[name].to(score.device) for name, score in scores.items()}
    )


def train(
    stage: Stage[Pruned],
    module: RobustTraining,
    recipe: Recipe,
    work: Path,
    where: RunContext,
    *,
    passes: int,
) -> None:
    """Train one phase of the stage ``pruned``, from the checkpoint in ``work`` if there is one."""
    repeats = replays(module.objective)
    datamodule = factories.training_data(
        stage.options.training, batch_size=recipe.batch_size, repeats=repeats
    )
    fit(where, module, datamodule, work, f"pruned {stage.key}", epochs=passes, callbacks=[])


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


def describe_rounds(ratios: list[float], kept: list[int], epochs: list[int]) -> dict[str, Any]:
    """Describe the rounds that were made, for the result.

    Args:
        ratios: decided, one a round.
        kept: weights left of those that may be removed.
        epochs: passes trained afterwards.
    """
    return {"rounds": ratios, "rounds_kept": kept, "rounds_epochs": epochs}


def check(pruner: Pruner, search: Recipe, objective: Objective) -> None:
    """Refuse rounds that cannot be made, before anything is trained.

    Args:
        pruner: its options.
        search: the recipe of a search.
        objective: the one that the phase between rounds, or the search, trains by.

    Raises:
        UserError: if a round would get no epoch, or a part of one.
    """
    times, rounds, epochs = replays(objective), pruner.rounds, pruner.epochs_per_round
    if pruner.schedule == "one_shot":
        return
    if pruner.search:
        if passes(search.epochs, objective) < rounds:
            raise UserError(
                f"pruner.rounds={rounds} share "
                f"search.epochs={search.epochs}{_replayed(times)}, which is less "
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
