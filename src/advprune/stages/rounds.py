"""What pruning trains and looks at, whatever it removes: learned scores, training between rounds, images to score."""

from pathlib import Path
from typing import Any

from advprune.modules.pruning import MaskSearch
from advprune.pruners import hydra
from advprune.stages import parts
from advprune.stages.fit import Where, fit
from advprune.stages.plan import Stage


class Batches:
    """Training batches for a criterion, loaded only if it looks at them."""

    def __init__(self, datamodule: Any, device: Any) -> None:
        self.datamodule, self.device = datamodule, device

    def __iter__(self) -> Any:
        self.datamodule.setup("fit")
        self.datamodule.to(self.device)
        return iter(self.datamodule.train_dataloader())


def search(stage: Stage, net: Any, ratios: list[float], folder: Path, where: Where) -> MaskSearch:
    """Train scores (HYDRA); the module comes with the masks of the last ratio chosen."""
    options, pruner = stage.options, stage.options["pruner"]
    recipe = parts.recipe(options["search"])
    module = MaskSearch(
        net, parts.objective(options), recipe, attack=parts.validation_attack(options), seed=options["seed"],
        scores=hydra.initial_scores(net, init=pruner["search"]["init"], seed=options["seed"]),
        choose=lambda scores, ratio: hydra.masks_of(scores, ratio, pruner["scope"]),
        through=hydra.straight_through, ratios=ratios, bn=pruner["search"]["bn"],
    )  # fmt: skip
    train(stage, module, recipe, folder / "work", where, epochs=recipe.epochs)
    module.ratio = ratios[-1]
    module.net.refresh()
    return module


def train(stage: Stage, module: Any, recipe: Any, work: Path, where: Where, *, epochs: int) -> None:
    """One training phase inside the stage ``pruned``; it goes on from what it finds in ``work``."""
    repeats = getattr(module.objective, "replays", 1)
    datamodule = parts.data(stage.options, batch_size=recipe.batch_size, repeats=repeats)
    epochs = max(round(epochs / repeats), 1)
    fit(where, module, datamodule, work, f"pruned {stage.key}", epochs=epochs, callbacks=[])
