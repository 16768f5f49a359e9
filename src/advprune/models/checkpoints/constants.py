"""The pixel constants in a file, compared with those the network standardises with."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from advprune.models.building_blocks import Normalize

MEANS = ("mean", "mu", "means", "new_mean", "image_mean", "pixel_mean", "_mean")
STDS = ("std", "sigma", "stds", "sds", "new_std", "image_std", "pixel_std", "_std")
#: From where a constant is in the units of 0 to 255.
BYTES = 2.0


@dataclass(frozen=True)
class Constants:
    """The mean and std in a file, in [0, 1] pixel units; None where it has none.

    Args:
        names: their names in the file.
    """

    mean: list[float] | None = None
    std: list[float] | None = None
    names: set[str] = field(default_factory=set)


def take_constants(rest: dict[str, Tensor], network: dict[str, Tensor]) -> Constants:
    """Find mean and std among the tensors that are not the network's.

    Args:
        rest: the file's tensors that are left.
        network: the network's state dict, which says how many channels there are.
    """
    convolution = next((tensor for tensor in network.values() if tensor.ndim == 4), None)
    channels = {1} if convolution is None else {1, convolution.shape[1]}
    candidates: dict[str, list[str]] = {"mean": [], "std": []}
    for name, tensor in rest.items():
        leaf = name.rpartition(".")[2]
        if (
            tensor.numel() in channels
            and tensor.ndim <= 4
            and tensor.is_floating_point()
            and not tensor.is_meta
        ):
            candidates["mean"] += [name] if leaf in MEANS else []
            candidates["std"] += [name] if leaf in STDS else []
    mean, std = (
        [float(v) for v in rest[names[0]].flatten()] if names else None
        for names in candidates.values()
    )
    if any(value > BYTES for value in (*(mean or ()), *(std or ()))):
        mean, std = ([v / 255 for v in values] if values else None for values in (mean, std))
    return Constants(mean, std, {*candidates["mean"], *candidates["std"]})


def compare(constants: Constants, model: nn.Module) -> tuple[str, bool] | None:
    """Compare the file's constants with those in use; None where one of the two has none.

    Returns:
        A sentence, and whether they agree.
    """
    layer = next((module for module in model.modules() if isinstance(module, Normalize)), None)
    if layer is None or not constants.names:
        return None
    differ, words = False, []
    for name in ("mean", "std"):
        theirs, ours = getattr(constants, name), getattr(layer, name).flatten().float().cpu()
        if theirs is None:
            continue
        theirs = theirs * len(ours) if len(theirs) == 1 else theirs
        differ |= not torch.allclose(torch.tensor(theirs), ours, atol=6e-4)
        words.append(f"model.{name}=[{','.join(f'{value:.4g}' for value in theirs)}]")
    if not differ:
        return f"its pixel constants are those in use ({' '.join(words)})", True
    in_use = " ".join(
        f"{n}=[{','.join(f'{v:.4g}' for v in getattr(layer, n).flatten())}]"
        for n in ("mean", "std")
    )
    return (
        f"the file has other pixel constants than those in use ({in_use}), which stay in use: if "
        f"it was trained with its own, give {' '.join(words)}"
    ), False
