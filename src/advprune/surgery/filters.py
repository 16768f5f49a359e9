"""Filters removed for real: every layer that depends on them shrinks; or zeroed, for comparison."""

import torch
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.surgery.channel_groups import Follower, Groups

Kept = dict[str, list[int]]  # {site name: filters that stay, ascending}


def remove(model: nn.Module, groups: Groups, kept: Kept) -> nn.Module:
    """Slice away all filters that are not kept, in place; the other weights keep their values.

    Args:
        model: a network.
        groups: of this model as it is now.
        kept: sites that are absent keep everything.

    Returns:
        The same model, its mode and flags unchanged.

    Raises:
        UserError: naming the site, if it is unknown, nothing of it would stay, or an index is not
            one of its filters.
    """
    check(model, groups, kept)
    for site, indices in kept.items():
        for follower in groups[site]:
            _slice(model.get_submodule(follower.module), follower, indices)
    return model


@torch.no_grad()
def silence(model: nn.Module, groups: Groups, kept: Kept) -> nn.Module:
    """Zero all that reads the filters that are not kept, in place: the masked twin of ``remove``.

    The network keeps its dense shape.

    Their readers' weights are zeroed and not their own, for a BatchNorm turns a filter of zeros
    into a constant.
    """
    check(model, groups, kept)
    for site, indices in kept.items():
        gone = torch.ones(width(model, site), dtype=torch.bool)
        gone[indices] = False
        for follower in groups[site]:
            if follower.side == "in":
                weight = model.get_submodule(follower.module).get_parameter("weight")
                weight[:, gone.repeat_interleave(follower.spread).to(weight.device)] = 0
    return model


def width(model: nn.Module, conv: str) -> int:
    """Return the number of filters of a convolution."""
    return model.get_parameter(f"{conv}.weight").shape[0]


def check(model: nn.Module, groups: Groups, kept: Kept) -> None:
    """Check that the filters can be removed; see ``remove`` for the errors."""
    for site, indices in kept.items():
        if site not in groups:
            raise UserError(
                f"{site} has no filters that may go; those that have: {', '.join(groups) or 'none'}"
            )
        count = width(model, site)
        if (
            not indices
            or sorted(set(indices)) != list(indices)
            or indices[0] < 0
            or indices[-1] >= count
        ):
            raise UserError(
                f"{site} has filters 0 to {count - 1}; at least one must stay, each named once, "
                "ascending"
            )


def _slice(module: nn.Module, follower: Follower, indices: list[int]) -> None:
    keep = torch.tensor(indices)
    if follower.spread > 1:
        keep = (keep[:, None] * follower.spread + torch.arange(follower.spread)).flatten()
    dim = 1 if follower.side == "in" else 0
    for name, parameter in list(module.named_parameters(recurse=False)):
        if dim == 0 or name == "weight":
            flag = parameter.requires_grad
            sliced = parameter.detach().index_select(dim, keep.to(parameter.device)).clone()
            module._parameters[name] = nn.Parameter(sliced, requires_grad=flag)
    for name, buffer in list(module.named_buffers(recurse=False)):
        if buffer.ndim == 1:  # running statistics, not the batch counter
            module._buffers[name] = buffer.index_select(0, keep.to(buffer.device)).clone()
    fit_attributes(module)


def fit_attributes(module: nn.Module) -> None:
    """Set a layer's channels, features and groups to what its weights have."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, nn.Conv2d):
        if module.groups > 1 and module.groups == module.in_channels:
            module.groups = module.in_channels = module.out_channels = weight.shape[0]
        else:
            module.out_channels, module.in_channels = (
                weight.shape[0],
                weight.shape[1] * module.groups,
            )
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm):
        module.num_features = weight.shape[0]
    else:
        raise UserError(
            f"a {type(module).__name__} cannot change its width here; supported: Conv2d, Linear, "
            "BatchNorm"
        )
