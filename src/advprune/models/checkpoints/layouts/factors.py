"""Read files of weights in factors: TwinRep's products, MAD's soft masks, BCS's signed thetas.

Written from what the modules of UCAS-LCH/Twin-Rep@55ddaa0, ByungKwanLee/
Masking-Adversarial-Damage@4d8d8e8 and IGITUGraz/SparseAdversarialTraining@483d800 compute.
"""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.checkpoints.layouts.layout import State, each_layer, is_mask, spread

FACTOR = frozenset({"aux_weight"})
TWIN = FACTOR | {"mask"}
SOFT = frozenset({"mask_weight"})
COUNTER = "num_batches_tracked"


def twin_rep(file: State, network: State, ratio: float | None) -> State:
    """Multiply both factors and the mask; filters are mixed where the second factor is square."""
    mixes = any(
        tensor.shape != file.get(f"{name.removesuffix('aux_weight')}weight", tensor).shape
        for name, tensor in file.items()
        if name.rpartition(".")[2] == "aux_weight"
    )

    def fold(layer: State) -> State:
        weight, second = layer["weight"], layer["aux_weight"]
        mask = spread(layer["mask"], weight, "a mask")
        if not is_mask(mask):
            raise UserError("a mask that holds other numbers than 0 and 1: the file is damaged")
        if not mixes:
            return {"weight": weight * spread(second, weight, "a factor (aux_weight)") * mask}
        if second.shape != (len(weight), len(weight)):
            raise UserError(
                f"a mix of filters (aux_weight) of shape {tuple(second.shape)}, and there are "
                f"{len(weight)} filters: they are of two networks; save model.state_dict() of one"
            )
        return {"weight": (second @ weight.flatten(1)).reshape(weight.shape) * mask}

    return each_layer(file, TWIN, fold)


def mad(file: State, network: State, ratio: float | None) -> State:
    """Multiply weights and biases by the softplus of their masks; the zeros are in the weights.

    Its VGG calls ``feature`` what others call ``features``.
    """

    def fold(layer: State) -> State:
        soft = {leaf: layer[leaf] for leaf in ("weight", "bias") if f"mask_{leaf}" in layer}
        return {
            leaf: value * F.softplus(spread(layer[f"mask_{leaf}"], value, f"mask_{leaf}"))
            for leaf, value in soft.items()
        }

    folded = each_layer(file, SOFT, fold)
    return {
        re.sub(r"^feature\.", "features.", name): tensor
        for name, tensor in folded.items()
        if name.rpartition(".")[2] != "mask_bias"
    }


def bcs(file: State, network: State, ratio: float | None) -> State:
    """Read a list of arrays in TensorFlow's order and shapes: theta and sign of each layer.

    A weight is sign x theta where theta > 0, else 0. The list is that of the layers from input to
    output, which is the order of the network's own names.

    Raises:
        UserError: if the list is shorter or longer than the network.
    """
    arrays = [file[str(number)] for number in range(len(file))]
    names = [name for name in network if not name.endswith(COUNTER)]
    plain: State = {}
    channels = 0
    for name in names:
        if not arrays:
            raise UserError(f"has no array for {name}: its list is of a smaller network")
        value = arrays.pop(0)
        if name.endswith("weight") and value.ndim >= 2:
            if arrays and arrays[0].shape == value.shape:
                value = torch.where(value > 0, arrays.pop(0) * value, 0.0)
            value = _as_torch(value, channels)
            channels = len(value)
        plain[name] = value
    if arrays:
        raise UserError(f"has {len(arrays)} arrays more than this network has tensors")
    return plain


def _as_torch(value: Tensor, channels: int) -> Tensor:
    """Return a kernel (H, W, I, O) or a matrix (I, O) as (O, I, H, W) or (O, I).

    Args:
        value: in TensorFlow's order.
        channels: of the layer before; a map of them is flattened with the channels last.
    """
    if value.ndim == 4:
        return value.permute(3, 2, 0, 1).contiguous()
    inputs, outputs = value.shape
    if channels and inputs % channels == 0:
        value = value.reshape(inputs // channels, channels, outputs).transpose(0, 1)
    return value.reshape(inputs, outputs).t().contiguous()


def bcs_doubts(model: nn.Module) -> list[str]:
    """Return a doubt where TensorFlow pads on the right and below, and torch all around."""
    strided = any(
        isinstance(m, nn.Conv2d) and m.stride != (1, 1) and m.kernel_size != (1, 1)
        for m in model.modules()
    )
    doubt = (
        "this network pads its convolutions of stride 2 on all sides, the authors' TensorFlow on "
        "the right and below alone: its accuracy is not that of their network"
    )
    return [doubt] if strided else []
