"""Make the stage ``finetuned``: recover the pruned network, its masks fixed."""

from pathlib import Path
from typing import Any

from torch import nn

import advprune.masks as mask_values
from advprune.config.stage_options import Finetuned, Pruned, Training
from advprune.models.find_sites import block_sites, filter_sites
from advprune.modules.weights_io import load_masks, load_weights, save_masks
from advprune.pruners import masking
from advprune.stages import checkpoint, pruning_phases
from advprune.stages.checkpoint import network_of, taught
from advprune.stages.dense import early_pass, train
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Stage
from advprune.surgery import structure
from advprune.surgery.budget import dense
from advprune.surgery.cost import layers, total
from advprune.surgery.subnet import Subnet


def make(
    stage: Stage[Finetuned], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Train the surviving weights: as pruning left them, from early weights, or from scratch."""
    assert parent is not None
    assert stage.parent is not None
    if (parent / structure.FILE).exists():
        return _smaller(stage, folder, parent, where)
    masks = load_masks(parent / "masks.safetensors")
    training, recovery = stage.options.training, stage.options.recovery
    # from scratch: the dense network's own initialisation
    net = checkpoint.network(network_of(stage), seed=training.seed)
    start = 0.0
    if recovery in ("finetune", "retrain"):
        net.load_state_dict(load_weights(parent / "model.safetensors"))
    elif recovery == "rewind":
        net.load_state_dict(checkpoint.early_weights(stage, folder))
        start = _rewound(training)
    goal = taught(training.objective.build(), stage, folder)
    result = train(Subnet(net, masks), training, folder, where, start=start, goal=goal)
    net = checkpoint.network(network_of(stage), seed=0)
    net.load_state_dict(load_weights(folder / "model.safetensors"))
    mask_values.check(net, masks)
    save_masks(masks, folder / "masks.safetensors")
    pruned: Pruned = stage.parent.options
    ratio = masking.target_ratio(net, pruned)
    measured = masking.measure_sparsity(net, masks, ratio, pruned.pruner)
    return result | measured | {"zeros": zeros(net)}


def _smaller(
    stage: Stage[Finetuned], folder: Path, parent: Path, where: RunContext
) -> dict[str, Any]:
    """Train the network that lost filters or blocks: as it was left, or with other weights."""
    assert stage.parent is not None
    training, recovery, start = stage.options.training, stage.options.recovery, 0.0
    removed = structure.load(parent / structure.FILE)
    if recovery in ("finetune", "retrain"):
        net = checkpoint.load_network(stage, parent, seed=training.seed)
    else:
        net = checkpoint.network(network_of(stage), seed=training.seed)
        if recovery == "rewind":
            net.load_state_dict(checkpoint.early_weights(stage, folder))
            start = _rewound(training)
        whole = dense(net, filter_sites(net), block_sites(net), checkpoint.image_shape(stage))
        structure.shrink(net, removed, groups=whole.groups, sites=whole.blocks)
    removed.save(folder / structure.FILE)
    goal = taught(training.objective.build(), stage, folder)
    result = train(net, training, folder, where, start=start, goal=goal)
    measured = counts(stage, folder)
    share = 1 - measured["params"] / measured["dense_params"]
    smaller = {
        "sparsity": share,
        "zeros": share,
        "compression": measured["dense_params"] / measured["params"],
    }
    return result | measured | smaller | {"ratio": masking.target_ratio(net, stage.parent.options)}


def counts(stage: Stage[Any], folder: Path) -> dict[str, Any]:
    """Count parameters and MACs, beside those of the dense network."""
    shape = checkpoint.image_shape(stage)
    after = total(layers(checkpoint.load_network(stage, folder), shape))
    dense_folder = checkpoint.dense_folder(stage, folder)
    before = total(layers(checkpoint.load_network(stage, dense_folder), shape))
    return {
        "params": after[0],
        "macs": after[1],
        "dense_params": before[0],
        "dense_macs": before[1],
    }


def _rewound(training: Training) -> float:
    """Return the share of the schedule that the early weights have behind them."""
    assert training.recipe is not None
    passes = pruning_phases.passes(training.recipe.epochs, training.objective.build())
    return early_pass(passes) / passes


def zeros(net: nn.Module) -> float:
    """Return the counted share of exact zeros among the prunable weights."""
    return mask_values.sparsity(mask_values.prunable(net)).overall
