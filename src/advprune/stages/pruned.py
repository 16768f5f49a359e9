"""The stage ``pruned``: masks decided on the dense network, counted, and applied."""

from pathlib import Path
from typing import Any

from advprune import masks as mask_values
from advprune.errors import UserError
from advprune.masks import Masks, keep_count, sparsity
from advprune.modules.callbacks import plain_weights
from advprune.modules.files import load_weights, save_weights
from advprune.modules.pruning import MaskSearch, PruningRounds
from advprune.pruners import hydra, scopes
from advprune.pruners.schedule import cumulative
from advprune.stages import parts
from advprune.stages.build import build
from advprune.stages.evaluated import model_options
from advprune.stages.fit import Where, fit
from advprune.stages.plan import Stage
from advprune.surgery.apply import apply


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Decide the masks; write them and the network with its pruned weights at zero."""
    assert parent is not None
    options = stage.options
    net = parts.network(model_options(stage), seed=options["seed"])
    net.load_state_dict(load_weights(parent / "model.safetensors"))
    net.eval()
    pruner = options["pruner"]
    ratios = cumulative(options["ratio"], schedule=pruner["schedule"], rounds=pruner["rounds"])
    decide = _search if pruner["search"] else _score
    net, masks = decide(stage, net, ratios, folder, where)
    apply(net, masks)
    save_weights(folder / "model.safetensors", plain_weights(net))
    mask_values.save(masks, folder / "masks.safetensors")
    return counted(masks, options["ratio"]) | {"checksum": mask_values.checksum(masks), "rounds": ratios}


def counted(masks: Masks, ratio: float) -> dict[str, Any]:
    """The measured sparsity; an error if the masks do not keep what the ratio allows.

    Raises:
        UserError: if the count is off by more than one weight a layer (each layer's own rounding).
    """
    measured = sparsity(masks)
    kept, total = sum(measured.kept.values()), sum(measured.total.values())
    if abs(kept - keep_count(total, ratio)) > len(masks):
        raise UserError(
            f"pruning to ratio={ratio} kept {kept} of {total} weights, not {keep_count(total, ratio)}: a defect"
        )
    return {"sparsity": measured.overall, "weights_kept": kept, "weights": total, "layers": measured.layers}


def _search(stage: Stage, net: Any, ratios: list[float], folder: Path, where: Where) -> tuple[Any, Masks]:
    """Train scores (HYDRA) and read the masks off them; BatchNorm as it was left by the search."""
    options, pruner = stage.options, stage.options["pruner"]
    recipe = parts.recipe(options["search"])
    module = MaskSearch(
        net, parts.objective(options), recipe, attack=parts.validation_attack(options), seed=options["seed"],
        scores=hydra.initial_scores(net, init=pruner["search"]["init"], seed=options["seed"]),
        choose=lambda scores, ratio: hydra.masks_of(scores, ratio, pruner["scope"]),
        through=hydra.straight_through, ratios=ratios, bn=pruner["search"]["bn"],
    )  # fmt: skip
    _fit(stage, module, recipe, folder, where, epochs=recipe.epochs)
    module.ratio = options["ratio"]
    module.net.refresh()
    masks = {name: mask.cpu() for name, mask in module.net.masks.items()}
    return module.net.net.cpu(), masks


def _score(stage: Stage, net: Any, ratios: list[float], folder: Path, where: Where) -> tuple[Any, Masks]:
    """Score by a criterion, once or in rounds with fine-tuning between them."""
    options, pruner = stage.options, stage.options["pruner"]
    criterion = build(pruner["criterion"])
    datamodule = parts.data(options, batch_size=128)

    def decide(model: Any, ratio: float, within: Masks | None) -> Masks:
        batches = _Batches(datamodule, next(model.parameters()).device)
        return scopes.spend(criterion(model, batches), ratio, scope=pruner["scope"], within=within)

    if len(ratios) == 1:
        return net, decide(net, ratios[0], None)
    recipe = parts.recipe(options["between"])
    epochs = pruner["epochs_per_round"] * (len(ratios) - 1)
    module = PruningRounds(
        net, parts.objective(options), recipe, attack=parts.validation_attack(options), seed=options["seed"],
        decide=decide, ratios=ratios[:-1],
    )  # fmt: skip
    _fit(stage, module, recipe, folder, where, epochs=epochs)
    earlier = {name: mask.cpu() for name, mask in module.net.masks.items()}
    net = module.net.net.cpu().eval()
    apply(net, earlier)
    return net, decide(net, ratios[-1], earlier)


class _Batches:
    """Training batches for a criterion, loaded only if it looks at them."""

    def __init__(self, datamodule: Any, device: Any) -> None:
        self.datamodule, self.device = datamodule, device

    def __iter__(self) -> Any:
        self.datamodule.setup("fit")
        self.datamodule.to(self.device)
        return iter(self.datamodule.train_dataloader())


def _fit(stage: Stage, module: Any, recipe: Any, folder: Path, where: Where, *, epochs: int) -> None:
    repeats = getattr(module.objective, "replays", 1)
    datamodule = parts.data(stage.options, batch_size=recipe.batch_size, repeats=repeats)
    epochs = max(round(epochs / repeats), 1)
    fit(where, module, datamodule, folder / "work", f"pruned {stage.key}", epochs=epochs, callbacks=[])
