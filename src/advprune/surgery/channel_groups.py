"""What must be sliced together when a filter goes, read from torch-pruning's dependency graph.

Torch-Pruning (Fang et al. 2023, https://arxiv.org/abs/2301.12900) finds the followers (BatchNorm,
depthwise convolutions, the next layer's inputs, also across a flatten); it neither chooses nor cuts
here, for at ratios near 1 it skips groups without a word, and zero-padded shortcuts mislead it
about the widths that sums fix, which no site touches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from advprune.errors import UserError
from advprune.sites import FilterSite

if TYPE_CHECKING:  # a second to import, for it brings timm, and only filters need it
    import torch_pruning


@dataclass(frozen=True)
class Follower:
    """A module that loses entries with a filter.

    Args:
        module: its name.
        side: ``out`` for its output channels (a BatchNorm's features), ``in`` for its input
            channels.
        spread: how many consecutive entries one filter stands for (map pixels behind a flatten,
            otherwise 1).
    """

    module: str
    side: str
    spread: int = 1


Groups = dict[
    str, tuple[Follower, ...]
]  # {site name: followers, the convolution itself among them}


def groups(model: nn.Module, sites: list[FilterSite], shape: tuple[int, int, int]) -> Groups:
    """Return the followers of every site.

    Args:
        model: a network; not changed.
        sites: of this model.
        shape: (C, H, W) of an image.

    Returns:
        By site name. The model is left as it was.

    Raises:
        UserError: if a site's width is tied to another convolution's, or a follower is of an
            unknown kind.
    """
    import torch_pruning

    names = {module: name for name, module in model.named_modules()}
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    try:
        with torch.enable_grad():
            model.eval().requires_grad_(True)
            graph = torch_pruning.DependencyGraph()
            graph.build_dependency(
                model, example_inputs=torch.zeros(2, *shape, device=device), verbose=False
            )
            return {site.name: _followers(model, graph, site, names) for site in sites}
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
            parameter.grad = None
        for module, mode in modes:
            module.training = mode


def _followers(
    model: nn.Module,
    graph: "torch_pruning.DependencyGraph",
    site: FilterSite,
    names: dict[nn.Module, str],
) -> tuple[Follower, ...]:
    import torch_pruning

    conv = model.get_submodule(site.conv)
    followers: dict[tuple[str, str], Follower] = {}
    for item, indices in graph.get_pruning_group(
        conv, torch_pruning.prune_conv_out_channels, idxs=[0]
    ):
        module = item.target.module
        if module not in names or not any(True for _ in module.parameters(recurse=False)):
            continue
        incoming = graph.is_in_channel_pruning_fn(item.handler) and not _depthwise(module)
        incoming = incoming and not isinstance(module, nn.modules.batchnorm._BatchNorm)
        follower = Follower(names[module], "in" if incoming else "out", len(indices))
        if (
            not incoming
            and isinstance(module, nn.Conv2d)
            and module is not conv
            and not _depthwise(module)
        ):
            raise UserError(
                f"the filters of {site.conv} are tied to those of {follower.module}, for their "
                "outputs are added; they cannot go alone: take a pruner of single weights, such as "
                "pruner=hydra, or one of this package's residual networks, such as model=resnet18"
            )
        followers[follower.module, follower.side] = follower
    return tuple(followers.values())


def _depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels
    )
