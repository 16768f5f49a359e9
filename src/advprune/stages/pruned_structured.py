"""Make the stage ``pruned`` where filters or blocks go: score, choose, cut away, count."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from advprune.config.groups import Pruner
from advprune.config.stage_options import Pruned
from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.masks import Scores
from advprune.models.structure import block_sites, filter_sites
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import plain_weights, save_weights
from advprune.pruners import blocks as block_choice
from advprune.pruners import filters as filter_choice
from advprune.pruners import scoring
from advprune.pruners.schedule import cumulative
from advprune.ranges import decimal
from advprune.sites import BlockSite, FilterSite
from advprune.stages import checkpoint, factories, masking, pruning_phases, sparse_parent
from advprune.stages.pruning_phases import (
    ScoringBatches,
    describe_rounds,
    learn,
    passes_between_rounds,
    passes_of_process,
    task_of,
    train,
)
from advprune.stages.training_phase import RunContext, trainer
from advprune.store.stage import Stage
from advprune.surgery import structure
from advprune.surgery.budget import Dense, dense
from advprune.surgery.cost import layers, total
from advprune.surgery.structure import Structure, shapes, shrink


@dataclass
class Removed:
    """List what is gone so far.

    Attributes:
        kept: the filters that stay at each site, as the dense network numbers them.
        gone: the blocks that are gone.
    """

    kept: dict[str, list[int]]
    blocks: list[str] = field(default_factory=list)

    def removed(self, widths: dict[str, int]) -> dict[str, int]:
        """Return how many filters are gone at each site."""
        return {site: widths[site] - len(kept) for site, kept in self.kept.items()}


def make(stage: Stage[Pruned], folder: Path, parent: Path, where: RunContext) -> dict[str, Any]:
    """Shrink the dense network; write it with its structure."""
    options, pruner, facts = stage.options, stage.options.pruner, where.facts(training=True)
    net = pruning_phases.start(stage, folder, parent)
    shape = checkpoint.image_shape(stage)
    whole = dense(net, filter_sites(net), block_sites(net), shape)
    progress = Removed({site: list(range(width)) for site, width in whole.widths.items()})
    ratio_in_all = masking.target_ratio(net, options)
    ratios = cumulative(ratio_in_all, schedule=pruner.schedule, rounds=pruner.rounds)
    parent_zeros, kept, rounds = sparse_parent.zeros_of(net), list[int](), {"rounds": ratios}
    if pruner.process is not None:
        process = pruner.process.build()(net, task_of(net, options, ratios, None))
        learn(stage, net, process, folder, where, passes=passes_of_process(options))
        scores = filter_choice.of_weight_scores(process.scores(), list(whole.widths))
        _cut(net, whole, progress, scores, ratio_in_all, pruner)
    else:
        passes = passes_between_rounds(options)
        for number, ratio in enumerate(ratios):
            if number and passes:
                net = _between(stage, net, folder / "work" / f"round_{number}", where, passes)
            _cut(net, whole, progress, _score(stage, net, whole, progress, where), ratio, pruner)
            kept.append(total(whole.left(progress.removed(whole.widths), progress.blocks))[0])
        rounds = describe_rounds(ratios, kept, [*[passes] * (len(ratios) - 1), 0])
    collectives.agree(
        "filters and blocks to remove", (progress.kept, progress.blocks), "report this as a defect"
    )
    collectives.rank_zero_continues()
    cut = {site: kept for site, kept in progress.kept.items() if len(kept) < whole.widths[site]}
    earlier = parent / structure.FILE
    removed = Structure(cut, progress.blocks, shapes(net))
    (structure.load(earlier).then(removed) if earlier.exists() else removed).save(
        folder / structure.FILE
    )
    save_weights(folder / "model.safetensors", plain_weights(net))
    result = sparse_parent.parent_facts(parent_zeros, unit=pruner.unit)
    return (
        facts
        | _counted(net, whole, progress, shape, ratio_in_all, pruner)
        | rounds
        | {"ratio": ratio_in_all}
        | result
    )


def _score(
    stage: Stage[Pruned], net: nn.Module, whole: Dense, progress: Removed, where: RunContext
) -> Scores:
    """Score what is left, on the device that trains."""
    pruner = stage.options.pruner
    assert pruner.criterion is not None
    if pruner.unit == "filters":
        sites: list[Any] = whole.filters
    else:
        sites = [site for site in whole.blocks if site.name not in progress.blocks]
    if not sites:
        return {}
    device = trainer(where, "score", enable_checkpointing=False).strategy.root_device
    images = ScoringBatches(factories.training_data(stage.options.training, batch_size=128), net)
    # each rank scores on the same images; what differs by rounding is averaged
    with collectives.without_communication():
        shapes = {site.name: _score_shape(site, progress) for site in sites}
        scores = scoring.checked_scores(
            pruner.criterion.build(), net.to(device), images, shapes=shapes, sites=sites
        )
    scores = collectives.averaged(scores)
    net.cpu()
    return {name: score.cpu() for name, score in scores.items()}


def _score_shape(site: FilterSite | BlockSite, progress: Removed) -> torch.Size:
    """Return the shape of a site's scores: one for each filter left, a scalar for a block."""
    return (
        torch.Size([len(progress.kept[site.name])])
        if isinstance(site, FilterSite)
        else torch.Size([])
    )


def _cut(
    net: nn.Module,
    whole: Dense,
    progress: Removed,
    scores: Scores,
    ratio: float,
    pruner: Pruner,
) -> None:
    """Choose by the scores and cut ``net`` in place; ``progress`` is brought up to date."""
    budget = pruner.budget
    assert budget is not None
    if pruner.unit == "blocks":
        if budget == "blocks" and whole.blocks:
            ratio = round(decimal(ratio) * len(whole.blocks)) / len(whole.blocks)
        new = block_choice.choose(
            scores,
            ratio,
            sites=whole.blocks,
            share=lambda gone: whole.share(budget, {}, gone),
            gone=progress.blocks,
            floor=pruner.floor or block_choice.FLOOR,
        )
        shrink(net, Structure({}, new, {}), groups=whole.groups, sites=whole.blocks)
        progress.blocks += new
        return
    multiple, before = pruner.round_to or 1, progress.removed(whole.widths)
    if pruner.budget == "filters" and pruner.scope == "layer":
        kept = filter_choice.uniform(scores, ratio, original=whole.widths, round_to=multiple)
    else:
        kept = filter_choice.choose(
            scores,
            ratio,
            scope=cast(filter_choice.Scope, pruner.scope),
            original=whole.widths,
            floor=pruner.floor or 1,
            round_to=multiple,
            share=lambda now: whole.share(budget, {s: n + before[s] for s, n in now.items()}, []),
        )
    shrink(net, Structure(kept, [], {}), groups=whole.groups, sites=whole.blocks)
    progress.kept = {
        site: [progress.kept[site][index] for index in stay] for site, stay in kept.items()
    }


def _between(
    stage: Stage[Pruned], net: nn.Module, work: Path, where: RunContext, passes: int
) -> nn.Module:
    """Fine-tune between two rounds."""
    training = stage.options.training
    recipe = training.recipe
    assert recipe is not None
    module = RobustTraining(
        net,
        training.objective.build(),
        recipe,
        seed=training.seed,
        attack=factories.validation_attack(training),
    )
    train(stage, module, work, where, passes=passes)
    return module.net.cpu().eval()


def _counted(
    net: nn.Module,
    whole: Dense,
    progress: Removed,
    shape: tuple[int, int, int],
    ratio: float,
    pruner: Pruner,
) -> dict[str, Any]:
    """Count what is left; raise if it is not what the choice promised."""
    removed = progress.removed(whole.widths)
    promised, measured = total(whole.left(removed, progress.blocks)), total(layers(net, shape))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    if measured != promised or parameters != promised[0]:
        raise UserError(
            f"pruning left {parameters} parameters and {measured[1]} MACs, not {promised}: a defect"
        )
    assert pruner.budget is not None
    achieved = whole.share(pruner.budget, removed, progress.blocks)
    uniform = pruner.budget == "filters" and pruner.scope == "layer"
    rounded = pruner.budget == "blocks" or uniform
    if not rounded and achieved < ratio - 1e-9:
        raise UserError(
            f"pruning to ratio={ratio:g} of {pruner.budget} removed only {achieved:.4f}: a defect"
        )
    dense_parameters, dense_macs = total(whole.costs)
    return {
        "sparsity": 1 - parameters / dense_parameters,
        "zeros": 1 - parameters / dense_parameters,
        "budget": pruner.budget,
        "achieved": achieved,
        "params": parameters,
        "dense_params": dense_parameters,
        "macs": measured[1],
        "dense_macs": dense_macs,
        "filters": sum(map(len, progress.kept.values())),
        "dense_filters": sum(whole.widths.values()),
        "blocks": len(whole.blocks) - len(progress.blocks),
        "dense_blocks": len(whole.blocks),
        "blocks_removed": progress.blocks,
        "widths": {site: len(kept) for site, kept in progress.kept.items()},
    }
