"""Choose the filters or blocks that a network would lose, for the dry run."""

from typing import Any

import torch
from torch import nn

from advprune.config.fingerprints import network_options
from advprune.errors import UserError
from advprune.models.structure import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.surgery.budget import dense


def check(options: dict[str, Any], net: nn.Module, ratio: float) -> None:
    """Refuse a unit, a budget or a ratio that the architecture cannot have.

    Args:
        options: of the job.
        net: its network, with any weights.
        ratio: what the budget is to be cut by.

    Raises:
        UserError: naming the largest ratio that is possible, where it is one.
    """
    pruner = options["pruner"]
    if pruner["budget"] is None:
        raise UserError("pruner.budget is missing: choose parameters, macs, filters or blocks")
    for name in ("floor", "round_to"):
        if pruner[name] is not None and pruner[name] < 1:
            raise UserError(f"pruner.{name}={pruner[name]} is not possible: it must be at least 1")
    model = network_options(options)
    shape = (int(model["in_channels"]), int(model["image_size"]), int(model["image_size"]))
    whole = dense(net, filter_sites(net), block_sites(net), shape)
    if pruner["unit"] == "blocks":
        flat = {site.name: torch.tensor(0.0) for site in whole.blocks}
        if pruner["budget"] == "blocks" and whole.blocks:
            ratio = round(ratio * len(whole.blocks)) / len(whole.blocks)
        blocks.choose(
            flat,
            ratio,
            sites=whole.blocks,
            floor=pruner["floor"] or blocks.FLOOR,
            share=lambda gone: whole.share(pruner["budget"], {}, gone),
        )
        return
    if not whole.filters:
        raise UserError(
            "no filters of this network may go: choose another model or an unstructured pruner"
        )
    scores = {site: torch.zeros(width) for site, width in whole.widths.items()}
    if pruner["budget"] != "filters" or pruner["scope"] != "layer":
        filters.choose(
            scores,
            ratio,
            scope=pruner["scope"],
            original=whole.widths,
            floor=pruner["floor"] or 1,
            round_to=pruner["round_to"] or 1,
            share=lambda removed: whole.share(pruner["budget"], removed, []),
        )
