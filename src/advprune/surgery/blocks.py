"""Residual blocks removed for real: the identity in their place."""

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.sites import BlockSite


def remove(model: nn.Module, sites: list[BlockSite], names: list[str]) -> nn.Module:
    """Replace blocks by the identity, in place.

    Exact where the shortcut is the identity and, for a block that ends in a ReLU, its input has
    passed one.

    Args:
        model: a residual network.
        sites: of this model, as it was dense.
        names: of the blocks to remove.

    Raises:
        UserError: if a name is no block of the model, or its shape forbids removal.
    """
    removable = {site.name: site.removable for site in sites}
    for name in names:
        if not removable.get(name, False):
            allowed = [site.name for site in sites if site.removable]
            raise UserError(
                f"{name} is no block that can be removed; those that can: "
                f"{', '.join(allowed) or 'none'}"
            )
    for name in names:
        model.set_submodule(name, nn.Identity())
    return model


@torch.no_grad()
def silence(model: nn.Module, sites: list[BlockSite], names: list[str]) -> nn.Module:
    """Zero the last layer of each named block's branch, in place: the masked twin of ``remove``.

    The shortcut stays.
    """
    by_name = {site.name: site for site in sites}
    for name in names:
        last = model.get_submodule(by_name[name].branch)
        for tensor in (last.weight, last.bias):
            if isinstance(tensor, Tensor):
                tensor.zero_()
    return model
