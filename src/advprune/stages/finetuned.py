"""Make the stage ``finetuned``: recover the pruned network, its masks fixed."""

from pathlib import Path
from typing import Any

from advprune import masks as mask_values
from advprune.errors import UserError
from advprune.models.structure import block_sites, filter_sites
from advprune.modules.weights_io import load_masks, load_weights, save_masks
from advprune.stages import checkpoint, factories, masking, pruning_phases
from advprune.stages.checkpoint import model_options
from advprune.stages.dense import early_pass, train
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Stage
from advprune.surgery import structure
from advprune.surgery.budget import dense
from advprune.surgery.cost import layers, total
from advprune.surgery.subnet import Subnet

NO_EARLY_WEIGHTS = (
    "pruner.recovery=rewind goes back to early weights, and this dense network came from a file; "
    "use finetune or scratch, or train the dense network here"
)


def make(stage: Stage, folder: Path, parent: Path | None, where: RunContext) -> dict[str, Any]:
    """Train the surviving weights: as pruning left them, from early weights, or from scratch."""
    assert parent is not None
    assert stage.parent is not None
    options = stage.options
    if (parent / structure.FILE).exists():
        return _smaller(stage, folder, parent, where)
    masks = load_masks(parent / "masks.safetensors")
    # from scratch: the dense network's own initialisation
    net = factories.network(model_options(stage), seed=options["seed"])
    start = 0.0
    if options["recovery"] == "finetune":
        net.load_state_dict(load_weights(parent / "model.safetensors"))
    elif options["recovery"] == "rewind":
        net.load_state_dict(load_weights(_early(stage, folder)))
        start = _rewound(options)
    result = train(
        Subnet(net, masks),
        stage,
        folder,
        where,
        "finetuned",
        options["recipe"],
        callbacks=[],
        start=start,
    )
    net = factories.network(model_options(stage), seed=0)
    net.load_state_dict(load_weights(folder / "model.safetensors"))
    mask_values.check(net, masks)
    save_masks(masks, folder / "masks.safetensors")
    ratio = masking.target_ratio(net, stage.parent.options)
    return (
        result
        | masking.measure_sparsity(net, masks, ratio, stage.parent.options["pruner"])
        | {"zeros": zeros(net)}
    )


def _smaller(stage: Stage, folder: Path, parent: Path, where: RunContext) -> dict[str, Any]:
    """Train the network that lost filters or blocks: as it was left, or with other weights."""
    assert stage.parent is not None
    options, start = stage.options, 0.0
    removed = structure.load(parent / structure.FILE)
    if options["recovery"] == "finetune":
        net = checkpoint.load_network(stage, parent, seed=options["seed"])
    else:
        net = factories.network(model_options(stage), seed=options["seed"])
        if options["recovery"] == "rewind":
            net.load_state_dict(load_weights(_early(stage, folder)))
            start = _rewound(options)
        whole = dense(net, filter_sites(net), block_sites(net), checkpoint.image_shape(stage))
        structure.shrink(net, removed, groups=whole.groups, sites=whole.blocks)
    removed.save(folder / structure.FILE)
    result = train(
        net, stage, folder, where, "finetuned", options["recipe"], callbacks=[], start=start
    )
    measured = counts(stage, folder)
    share = 1 - measured["params"] / measured["dense_params"]
    smaller = {
        "sparsity": share,
        "zeros": share,
        "compression": measured["dense_params"] / measured["params"],
    }
    return result | measured | smaller | {"ratio": masking.target_ratio(net, stage.parent.options)}


def counts(stage: Stage, folder: Path) -> dict[str, Any]:
    """Count parameters and MACs, beside those of the dense network."""
    shape = checkpoint.image_shape(stage)
    after = total(layers(checkpoint.load_network(stage, folder), shape))
    before = total(layers(checkpoint.load_network(stage, _dense(stage, folder)), shape))
    return {
        "params": after[0],
        "macs": after[1],
        "dense_params": before[0],
        "dense_macs": before[1],
    }


def _rewound(options: dict[str, Any]) -> float:
    """Return the share of the schedule that the early weights have behind them."""
    passes = pruning_phases.passes(options["recipe"]["epochs"], factories.objective(options))
    return early_pass(passes) / passes


def zeros(net: Any) -> float:
    """Return the counted share of exact zeros among the prunable weights."""
    return mask_values.sparsity(mask_values.prunable(net)).overall


def _dense(stage: Stage, folder: Path) -> Path:
    """Return the folder of the dense ancestor."""
    while stage.parent is not None:
        stage = stage.parent
    return folder.parents[1] / stage.kind / stage.key


def _early(stage: Stage, folder: Path) -> Path:
    """Return the file of the dense ancestor's early weights."""
    path = _dense(stage, folder) / "early.safetensors"
    if not path.exists():
        raise UserError(NO_EARLY_WEIGHTS)
    return path
