"""Count what a network from a file consists of, and doubt what the user says of it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from advprune.config.stage_options import Weights
from advprune.masks import Sparsity, prunable, sparsity
from advprune.models.checkpoints.layouts.known_layouts import LAYOUTS
from advprune.surgery import cost

#: Of what should be kept, the share by which a count may differ from it, beside one weight a layer.
ROUNDING = 0.01


@dataclass(frozen=True)
class FileAudit:
    """What a file holds, by counting.

    Args:
        layout: how it was saved; None: plain weights.
        owner: whose layout that is; empty for plain weights.
        parameters: learned numbers, those that are zero too.
        macs: multiplications for one image, those by zero too.
        nonzero_macs: multiplications by weights that are not zero.
        weights: prunable weights.
        layers: share of zeros in each prunable weight, in [0, 1].
        filters: how many filters and neurons there are.
        zero_filters: how many of them have no weight that is not zero.
    """

    layout: str | None
    owner: str
    parameters: int
    macs: int
    nonzero_macs: int
    weights: int
    layers: dict[str, float]
    filters: int
    zero_filters: int


def audit(net: nn.Module, image_shape: tuple[int, int, int], weights: Weights) -> dict[str, Any]:
    """Return the counts of a network that was read from a file, and doubts, for the result.

    Args:
        net: with the weights.
        image_shape: (C, H, W) of an image.
        weights: the file, and what the user says of it.
    """
    tensors = prunable(net)
    counts = sparsity(tensors)
    rows = [tensor.detach().flatten(1).any(1) for tensor in tensors.values()]
    audited = FileAudit(
        layout=weights.layout,
        owner="" if weights.layout is None else LAYOUTS[weights.layout].owner,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        macs=sum(layer.macs for layer in cost.layers(net, image_shape).values()),
        nonzero_macs=cost.effective_macs(net, image_shape),
        weights=sum(counts.total.values()),
        layers={name.removesuffix(".weight"): share for name, share in counts.layers.items()},
        filters=sum(len(row) for row in rows),
        zero_filters=sum(int((~row).sum()) for row in rows),
    )
    return {
        "sparsity": counts.overall,  # of the weights as they came: nobody else knows it
        "zeros": counts.overall,
        "file": asdict(audited),
        "doubts": _doubts(counts, weights),
    }


def _doubts(counts: Sparsity, weights: Weights) -> list[str]:
    """Return what speaks against the file's being what the user says."""
    file, total, kept = Path(weights.path).name, sum(counts.total.values()), counts.kept
    zeros, doubts = total - sum(kept.values()), list[str]()
    if weights.ratio is not None:
        wanted = weights.ratio * total
        if abs(zeros - wanted) > ROUNDING * (total - wanted) + len(kept):
            doubts.append(
                f"ratio={weights.ratio:g} was said of {file}, and {zeros} of its {total} weights "
                f"are zero, which is {zeros / total:.4f}"
            )
    if zeros == 0 and weights.layout not in (None, "pretrained"):
        doubts.append(
            f"no weight of {file} is zero: it is a dense network, or its masks lie in another file"
        )
    return doubts
