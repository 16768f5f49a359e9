"""Choose filters or blocks of the untrained network, for the dry run."""

from typing import cast

import torch
from torch import nn

from advprune.config.groups import Pruner
from advprune.config.options import Options
from advprune.errors import UserError
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.surgery.budget import Dense, dense


def try_choice(options: Options, pruner: Pruner, ratio: float, net: nn.Module) -> None:
    """Choose filters or blocks by flat scores: a ratio that the network cannot reach is refused."""
    whole = dense(net, filter_sites(net), block_sites(net), options.model.image_shape)
    if pruner.unit == "blocks":
        _choose_blocks(whole, pruner, ratio)
    elif not whole.filters:
        raise UserError(
            "no filters of this network may go: choose another model or an unstructured pruner"
        )
    elif pruner.budget == "filters" and pruner.scope == "layer":
        zeros = {site: torch.zeros(width) for site, width in whole.widths.items()}
        filters.uniform(zeros, ratio, original=whole.widths, round_to=pruner.round_to or 1)
    else:
        _choose_filters(whole, pruner, ratio)


def _choose_blocks(whole: Dense, pruner: Pruner, ratio: float) -> None:
    budget = pruner.budget
    assert budget is not None
    if budget == "blocks" and whole.blocks:
        ratio = round(ratio * len(whole.blocks)) / len(whole.blocks)
    blocks.choose(
        {site.name: torch.tensor(0.0) for site in whole.blocks},
        ratio,
        sites=whole.blocks,
        floor=pruner.floor or blocks.FLOOR,
        share=lambda gone: whole.share(budget, {}, gone),
    )


def _choose_filters(whole: Dense, pruner: Pruner, ratio: float) -> None:
    budget = pruner.budget
    assert budget is not None
    filters.choose(
        {site: torch.zeros(width) for site, width in whole.widths.items()},
        ratio,
        scope=cast(filters.Scope, pruner.scope),
        original=whole.widths,
        floor=pruner.floor or 1,
        round_to=pruner.round_to or 1,
        share=lambda removed: whole.share(budget, removed, []),
    )
