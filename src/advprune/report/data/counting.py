"""Count the parameters and MACs of a network that was evaluated by code that did not count them."""

import json
import re
from functools import cache

from advprune.errors import UserError
from advprune.report.data.runs import Run

WEIGHTS = "model.safetensors"


def counted_network(run: Run) -> dict[str, int]:
    """Return ``nonzero_parameters`` and ``nonzero_macs``, as today's evaluations have them.

    They are counted in the stored weights; the dense network is built once, on random weights, to
    see how often each weight is multiplied. Empty of a network in 8 bits, of one that is not part
    of this package, and of weights that cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from advprune.surgery.hub_folder import MODELS

    model = json.dumps(run.dense.options.get("model"))
    named = re.findall(r'"_target_": "([^"]*)', model)
    foreign = not named or not all(name.startswith(MODELS) for name in named)
    if foreign or run.final.kind == "quantized":
        return {}
    try:
        tensors = load_file(run.final.folder / WEIGHTS)
        positions = _positions(model)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RuntimeError, UserError):
        return {}
    counts = {name: int((tensors[name] != 0).sum()) for name in positions if name in tensors}
    return {
        "nonzero_parameters": sum(counts.values()),
        "nonzero_macs": sum(number * positions[name] for name, number in counts.items()),
    }


@cache
def _positions(model: str) -> dict[str, int]:
    """Return how often an image multiplies each parameter of a network; 0 of biases and norms.

    Args:
        model: the network's options, in JSON.
    """
    from advprune.config.groups import Network
    from advprune.surgery.cost import layers

    network = Network(json.loads(model))
    net = network.build()
    costs = layers(net, network.image_shape)
    return {
        name: costs[layer].positions if layer in costs and kind == "weight" else 0
        for name, _ in net.named_parameters()
        for layer, _, kind in [name.rpartition(".")]
    }
