"""The stage ``finetuned``: the pruned network recovered, its masks fixed, its pruned weights zero at the end."""

from pathlib import Path
from typing import Any

from advprune import masks as mask_values
from advprune.errors import UserError
from advprune.modules.files import load_weights
from advprune.stages import budget, parts
from advprune.stages.dense import EARLY, train
from advprune.stages.evaluated import model_options
from advprune.stages.fit import Where
from advprune.stages.plan import Stage
from advprune.surgery.subnet import Subnet


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Train the surviving weights: from where pruning left them, from early in training, or from scratch."""
    assert parent is not None
    assert stage.parent is not None
    options = stage.options
    masks = mask_values.load(parent / "masks.safetensors")
    net = parts.network(
        model_options(stage), seed=options["seed"]
    )  # from scratch: the dense network's own initialisation
    start = 0.0
    if options["recovery"] == "finetune":
        net.load_state_dict(load_weights(parent / "model.safetensors"))
    elif options["recovery"] == "rewind":
        net.load_state_dict(load_weights(_early(stage, folder)))
        start = round(EARLY * options["recipe"]["epochs"]) / options["recipe"]["epochs"]
    told = train(Subnet(net, masks), stage, folder, where, "finetuned", options["recipe"], callbacks=[], start=start)
    net = parts.network(model_options(stage), seed=0)
    net.load_state_dict(load_weights(folder / "model.safetensors"))
    mask_values.check(net, masks)
    mask_values.save(masks, folder / "masks.safetensors")
    ratio = budget.wanted(net, stage.parent.options)
    return told | budget.counted(net, masks, ratio, stage.parent.options["pruner"]) | {"zeros": zeros(net)}


def zeros(net: Any) -> float:
    """The share of exact zeros among the prunable weights, counted."""
    return mask_values.sparsity(mask_values.prunable(net)).overall


def _early(stage: Stage, folder: Path) -> Path:
    """The early weights of the dense ancestor."""
    dense = stage
    while dense.parent is not None:
        dense = dense.parent
    path = folder.parents[1] / dense.kind / dense.key / "early.safetensors"
    if not path.exists():
        raise UserError(
            "pruner.recovery=rewind goes back to early weights, and this dense network came from a file; "
            "use finetune or scratch, or train the dense network here"
        )
    return path
