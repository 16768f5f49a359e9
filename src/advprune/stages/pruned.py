"""Make the stage ``pruned``: decide masks on the dense network, count them, and apply them."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune import masks as mask_values
from advprune.config.stage_options import Pruned
from advprune.distributed import collectives
from advprune.distributed.sharding import seed_step
from advprune.errors import UserError
from advprune.frozen import preserve_rng
from advprune.masks import Masks
from advprune.modules.pruning import PruningRounds
from advprune.modules.weights_io import plain_weights, save_masks, save_weights
from advprune.pruners.schedule import cumulative
from advprune.stages import checkpoint, factories, masking, pruned_structured, sparse_parent
from advprune.stages.pruning_phases import (
    ScoringBatches,
    describe_rounds,
    passes_between_rounds,
    search,
    train,
)
from advprune.stages.training_phase import RunContext, trainer
from advprune.store.stage import Stage
from advprune.surgery import structure
from advprune.surgery.apply import apply


def make(
    stage: Stage[Pruned], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Decide the masks; write them and the network with its pruned weights at zero."""
    assert parent is not None
    options = stage.options
    pruner = options.pruner
    if pruner.search is None and not passes_between_rounds(options) and pruner.unit is None:
        collectives.rank_zero_continues()  # scoring alone takes seconds
    facts = where.facts(training=True)
    if pruner.unit is not None:
        return pruned_structured.make(stage, folder, parent, where)
    if (parent / structure.FILE).exists():
        raise UserError(
            "the dense network of this job has lost filters or blocks, and single weights of such "
            "a network are not pruned here: choose pruner=filters or pruner=blocks, or another "
            "dense network"
        )
    net = checkpoint.load_network(stage, parent, seed=options.training.seed)
    ratio = masking.target_ratio(net, options)
    parent_zeros, within = sparse_parent.zeros_of(net), sparse_parent.masks_of(net, pruner)
    start = sparse_parent.gone(net, pruner, within, ratio)
    ratios = cumulative(ratio, schedule=pruner.schedule, rounds=pruner.rounds, start=start)
    decide = _search if pruner.search else _score
    net, masks, rounds = decide(stage, net, ratios, within, folder, where)
    apply(net, masks)
    save_weights(folder / "model.safetensors", plain_weights(net))
    save_masks(masks, folder / "masks.safetensors")
    result = masking.measure_sparsity(net, masks, ratio, pruner)
    result |= sparse_parent.parent_facts(parent_zeros, unit=None)
    return facts | result | {"checksum": mask_values.checksum(masks)} | rounds


def _search(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    within: Masks | None,
    folder: Path,
    where: RunContext,
) -> tuple[nn.Module, Masks, dict[str, Any]]:
    """Train scores (HYDRA) and read the masks off them; BatchNorm stays as the search left it."""
    module = search(stage, net, ratios, folder, where, within=within)
    collectives.rank_zero_continues()
    masks = {name: mask.cpu() for name, mask in module.net.masks.items()}
    return module.net.net.cpu(), masks, {"rounds": ratios}


def _score(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    within: Masks | None,
    folder: Path,
    where: RunContext,
) -> tuple[nn.Module, Masks, dict[str, Any]]:
    """Score by a criterion, once or in rounds, with or without fine-tuning between them."""
    options, pruner, training = stage.options, stage.options.pruner, stage.options.training
    assert pruner.criterion is not None
    criterion = pruner.criterion.build()
    datamodule = factories.training_data(training, batch_size=128)

    def decide(model: nn.Module, ratio: float, within: Masks | None) -> Masks:
        batches = ScoringBatches(datamodule, next(model.parameters()).device)
        with preserve_rng():
            seed_step(training.seed, "criterion", 0)
            masks = masking.compute_masks(criterion, model, batches, pruner, ratio, within)
        return collectives.broadcast_masks(masks)

    names = list(masking.removable(net, pruner))
    passes = passes_between_rounds(options)
    if passes == 0:
        run = trainer(where, f"pruned {stage.key}", enable_checkpointing=False)
        net, kept = net.to(run.strategy.root_device), []
        for ratio in ratios:
            within = decide(apply(net, within) if within else net, ratio, within)
            kept.append(sum(int(within[name].sum()) for name in names))
        assert within is not None
        masks = {name: mask.cpu() for name, mask in within.items()}
        return net.cpu(), masks, describe_rounds(ratios, kept, [0] * len(ratios))
    recipe = training.recipe
    assert recipe is not None
    module = PruningRounds(
        net,
        training.objective.build(),
        recipe,
        attack=factories.validation_attack(training),
        seed=training.seed,
        decide=decide,
        ratios=ratios[:-1],
        removable=masking.removable(net, pruner),
        within=within,
    )
    train(stage, module, recipe, folder / "work", where, passes=passes * (len(ratios) - 1))
    collectives.rank_zero_continues()
    earlier = {name: mask.cpu() for name, mask in module.net.masks.items()}
    kept = [int(count) for count in module.kept]
    net = module.net.net.cpu().eval()
    apply(net, earlier)
    masks = decide(net, ratios[-1], earlier)
    kept.append(sum(int(masks[name].sum()) for name in names))
    return net, masks, describe_rounds(ratios, kept, [*[passes] * (len(ratios) - 1), 0])
