"""What a network costs in parameters and MACs: layer by layer, with some filters fewer, and in all.

In all, what is zero is counted apart.
"""

from dataclasses import dataclass

import torch
from torch import nn

from advprune.frozen import frozen
from advprune.surgery.channel_groups import Groups

LAYERS = (nn.Conv2d, nn.Linear)
NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Layer:
    """One layer's cost. A MAC is one multiplication of a weight: half of torch's FLOPs.

    Args:
        outputs: channels or features.
        inputs: channels or features that one output reads; 1 of a depthwise convolution or a
            BatchNorm.
        weights: for one pair of output and input.
        biases: learned numbers an output has besides (of a BatchNorm, gamma and beta).
        positions: of the output map; 0 where nothing is multiplied.
    """

    outputs: int
    inputs: int
    weights: int
    biases: int
    positions: int

    @property
    def parameters(self) -> int:
        """Count the learned numbers."""
        return self.outputs * (self.inputs * self.weights + self.biases)

    @property
    def macs(self) -> int:
        """Count the multiplications for one image."""
        return self.outputs * self.inputs * self.weights * self.positions


def layers(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, Layer]:
    """Return the cost of every layer that has parameters.

    Args:
        model: a network; not changed.
        shape: (C, H, W) of an image.

    Returns:
        By module name. The model is left as it was.
    """
    costs: dict[str, Layer] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (*LAYERS, *NORMS)):
            handles.append(module.register_forward_hook(_recorder(name, costs)))
    try:
        with frozen(model), torch.no_grad():
            model(torch.zeros(1, *shape, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return costs


def _recorder(name: str, costs: dict[str, Layer]):  # type: ignore[no-untyped-def]
    def record(module: nn.Module, _: object, out: torch.Tensor) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            costs[name] = Layer(module.num_features, 1, 0, 2, 0)
            return
        assert isinstance(module, LAYERS)
        weight, bias = module.weight, int(module.bias is not None)
        positions = (
            out[0, 0].numel()
            if isinstance(module, nn.Conv2d)
            else out[0].numel() // weight.shape[0]
        )
        costs[name] = Layer(weight.shape[0], weight.shape[1], weight[0, 0].numel(), bias, positions)

    return record


def total(costs: dict[str, Layer]) -> tuple[int, int]:
    """Sum the parameters and the MACs of all layers."""
    return sum(layer.parameters for layer in costs.values()), sum(
        layer.macs for layer in costs.values()
    )


def without(costs: dict[str, Layer], groups: Groups, removed: dict[str, int]) -> dict[str, Layer]:
    """Return the costs with this many filters fewer at each site."""
    lost: dict[tuple[str, str], int] = {}
    for site, count in removed.items():
        for follower in groups[site]:
            at = (follower.module, follower.side)
            lost[at] = lost.get(at, 0) + count * follower.spread
    return {
        name: Layer(
            layer.outputs - lost.get((name, "out"), 0),
            layer.inputs - lost.get((name, "in"), 0),
            layer.weights,
            layer.biases,
            layer.positions,
        )
        for name, layer in costs.items()
    }


def nonzeros(model: nn.Module) -> dict[str, int]:
    """Count the non-zero entries of each convolution's and linear layer's weight."""
    return {
        f"{name}.weight": int(torch.count_nonzero(module.weight))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def effective_macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Count one image's multiplications by non-zero weights, as ideal sparse hardware would."""
    costs = layers(model, shape)
    return sum(
        count * costs[name.removesuffix(".weight")].positions
        for name, count in nonzeros(model).items()
    )


def counted(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, int]:
    """Count what a network has, and what of it is not zero.

    Args:
        model: in floating point; not changed.
        shape: (C, H, W) of an image.

    Returns:
        ``parameters`` in all, ``nonzero_parameters`` and ``nonzero_macs``.
    """
    parameters = list(model.parameters())
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "nonzero_parameters": sum(int(torch.count_nonzero(p)) for p in parameters),
        "nonzero_macs": effective_macs(model, shape),
    }
