"""Make the stage ``pruned``: decide masks by a criterion or a process, count them, apply them."""

from pathlib import Path
from typing import Any

from torch import nn

import advprune.masks as mask_values
from advprune.config.stage_options import Pruned
from advprune.distributed import collectives
from advprune.masks import Masks
from advprune.modules.scoring_pass import Decide, deciding
from advprune.modules.weights_io import plain_weights, save_masks, save_weights
from advprune.pruners import masking, sparse_parent
from advprune.pruners.process import Process
from advprune.pruners.rounds import Rounds, describe_rounds
from advprune.pruners.task import cumulative
from advprune.stages import checkpoint, pruned_structured, pruning_phases, scores
from advprune.stages.training_phase import RunContext, device_of
from advprune.store.stage import Stage
from advprune.surgery.subnet import apply


def make(
    stage: Stage[Pruned], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Decide the masks; write them and the network with its pruned weights at zero."""
    assert parent is not None
    options, pruner = stage.options, stage.options.pruner
    trains = pruner.process is not None or pruning_phases.passes_between_rounds(options) > 0
    if not trains and pruner.unit is None:
        collectives.rank_zero_continues()  # scoring alone takes seconds
    facts = where.facts(training=True)
    if pruner.unit is not None:
        return pruned_structured.make(stage, folder, parent, where)
    net = pruning_phases.start(stage, folder, parent)
    ratio, within, start = masking.target_ratio(net, options), None, 0.0
    if checkpoint.is_foreign(stage):  # then it may have been sparse before
        within = sparse_parent.masks_of(net, pruner)
        start = sparse_parent.gone(net, pruner, within, ratio)
        facts |= sparse_parent.parent_facts(net, unit=None)
    ratios = cumulative(ratio, schedule=pruner.schedule, rounds=pruner.rounds, start=start)
    decide = _train if trains else _score
    masks, details = decide(stage, net, ratios, within, folder, where)
    apply(net, masks)
    save_weights(folder / "model.safetensors", plain_weights(net))
    save_masks(masks, folder / "masks.safetensors")
    result = masking.measure_sparsity(net, masks, ratio, pruner)
    return facts | result | {"checksum": mask_values.checksum(masks)} | details


def _train(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    within: Masks | None,
    folder: Path,
    where: RunContext,
) -> tuple[Masks, dict[str, Any]]:
    """Train with the pruner's process, such as ``pruners/hydra.py``, or its criterion's rounds."""
    process, passes = _process(stage, net, ratios, within, folder)
    return pruning_phases.learn(stage, net, process, folder, where, within=within, passes=passes)


def _process(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    within: Masks | None,
    folder: Path,
) -> tuple[Process, int]:
    """Return what prunes while training runs, and the passes over the images."""
    options, pruner = stage.options, stage.options.pruner
    task = pruning_phases.task_of(net, options, ratios, within)
    if pruner.process is not None:
        return pruner.process.build()(net, task), pruning_phases.passes_of_process(options)
    passes = pruning_phases.passes_between_rounds(options)
    decide, everything = _decide(stage, folder), masking.everything(net, pruner) | (within or {})

    def decide_within(model: nn.Module, ratio: float, masks: Masks) -> Masks:
        device = next(model.parameters()).device
        return decide(model, ratio, {n: m.to(device) for n, m in (everything | masks).items()})

    return Rounds(net, task, decide=decide_within, passes=passes), passes * (len(ratios) - 1)


def _score(
    stage: Stage[Pruned],
    net: nn.Module,
    ratios: list[float],
    within: Masks | None,
    folder: Path,
    where: RunContext,
) -> tuple[Masks, dict[str, Any]]:
    """Score by a criterion, once or in rounds, and train nothing between them."""
    decide, names = _decide(stage, folder), list(masking.removable(net, stage.options.pruner))
    net.to(device_of(where))
    kept = []
    for ratio in ratios:
        within = decide(apply(net, within) if within else net, ratio, within)
        kept.append(sum(int(within[name].sum()) for name in names))
    assert within is not None
    net.cpu()
    masks = {name: mask.cpu() for name, mask in within.items()}
    return masks, describe_rounds(ratios, kept, [0] * len(ratios))


def _decide(stage: Stage[Pruned], folder: Path) -> Decide:
    """Return what decides the masks of each round."""
    training = stage.options.training
    data, seed = training.data(batch_size=128), training.seed
    return deciding(scores.criteria(stage, folder), stage.options.pruner, data, seed=seed)
