"""Make the stage ``quantized``: a network in 8 bits, calibrated, and trained on if asked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, fx

from advprune.config import stage_options
from advprune.distributed import collectives
from advprune.masks import prunable, sparsity
from advprune.modules.weights_io import load_weights, plain_weights, save_weights
from advprune.quantizers.calibrate import calibrate
from advprune.quantizers.int8 import Int8, integers
from advprune.quantizers.variants import Quantized
from advprune.stages import checkpoint
from advprune.stages.checkpoint import taught
from advprune.stages.dense import train
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Stage
from advprune.surgery.subnet import Subnet

#: What the parent measured and this network still has.
INHERITED = (
    *(
        "sparsity",
        "weights_kept",
        "weights",
        "layers",
        "kept",
        "best",
        "last",
        "validation",
        "foreign",
    ),
    *("ratio", "compression", "params", "dense_params", "macs", "dense_macs"),
)


def make(
    stage: Stage[stage_options.Quantized], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Quantize the parent's network; write its fake-quantized and its int8 weights."""
    assert parent is not None
    result = json.loads((parent / "result.json").read_text())
    result = {name: result[name] for name in INHERITED if name in result}
    net = fresh(stage, parent)
    before = {name: weight == 0 for name, weight in prunable(net).items()}
    with collectives.without_communication():
        quantizers = calibrate(net, _images(stage.options))
    training = stage.options.training
    if training is not None:
        subnet = Subnet(net, {name: ~zero for name, zero in before.items()})
        result |= train(
            subnet,
            training,
            folder,
            where,
            goal=taught(training.objective.build(), stage, folder),
        )
        net.load_state_dict(load_weights(folder / "model.safetensors"))
    else:
        collectives.rank_zero_continues()
    save_weights(folder / "model.safetensors", plain_weights(net))
    whole = integers(net)
    save_weights(folder / "int8.safetensors", whole)
    sizes = {
        "float_bytes": (parent / "model.safetensors").stat().st_size,
        "int8_bytes": (folder / "int8.safetensors").stat().st_size,
    }
    return (
        result
        | sizes
        | {
            "zeros": sparsity(prunable(net)).overall,
            "int8_zeros": sparsity({name: whole[name] for name in prunable(net)}).overall,
            "quantizers": quantizers,
        }
    )


def fresh(stage: Stage[stage_options.Quantized], parent: Path) -> fx.GraphModule:
    """Return the parent's network with quantizers that are not calibrated yet."""
    assert stage.parent is not None
    quantize = stage.options.quantizer.method.build()
    net: fx.GraphModule = quantize(checkpoint.load_network(stage.parent, parent))
    return net


def load(stage: Stage[stage_options.Quantized], folder: Path, *, runs: str) -> Quantized:
    """Return the network of a ``quantized`` stage with all its variants.

    Args:
        stage: of kind ``quantized``.
        folder: of the stage.
        runs: what is evaluated: ``fake_quant``, or ``int8`` in onnxruntime.
    """
    assert stage.parent is not None
    parent = folder.parents[1] / stage.parent.kind / stage.parent.key
    fake = fresh(stage, parent)
    fake.load_state_dict(load_weights(folder / "model.safetensors"))
    fake.eval()
    evaluated = Int8(fake) if runs == "int8" else fake
    return Quantized(
        evaluated, float_twin=checkpoint.load_network(stage.parent, parent), fake_quant=fake
    ).eval()


def _images(options: stage_options.Quantized) -> Iterator[Tensor]:
    """Yield training images, as training sees them, in their order of the first epoch."""
    datamodule = options.dataset.build(seed=options.seed, batch_size=128)
    datamodule.setup("fit")
    left = options.quantizer.images
    for x, _ in datamodule.train_dataloader():
        if left <= 0:
            return
        yield x[:left]
        left -= len(x)
