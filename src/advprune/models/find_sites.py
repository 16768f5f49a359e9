"""Which filters and blocks of each network may be removed.

The rules of https://arxiv.org/abs/2108.04890 and its authors' code.

Filters: of a residual block only those whose width no sum fixes (the first 3x3 convolution; in a
bottleneck the 1x1 reduction and the 3x3, of blocks that do not downsample; in an inverted residual
the 1x1 expansion, whose depthwise convolution follows); of a plain chain all convolutions but the
last. Stems, shortcuts and classifiers stay.

Blocks: residual blocks whose input and output have one shape, but for the first of the network and,
in MobileNetV2, those whose sum has another shape than the previous sum. Each is the identity
without its branch: where a ReLU ends a block its input is a ReLU's output already.
"""

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual

from advprune.models.cifar_resnet import Block
from advprune.models.dm_preact_resnet import DMPreActBlock
from advprune.models.dm_wide_resnet import DMWideBlock
from advprune.models.imagenet_resnet import ImageNetBlock
from advprune.models.preact_resnet import PreActBlock
from advprune.models.resnet import BasicBlock, NarrowBlock
from advprune.models.resnet50 import Bottleneck
from advprune.models.wide_resnet import WideBlock
from advprune.sites import BlockSite, FilterSite

BASIC = (Block, BasicBlock, ImageNetBlock)
SWISH = (DMWideBlock, DMPreActBlock)
PREACTIVATED = (PreActBlock, WideBlock, *SWISH)
THREE = (Bottleneck, NarrowBlock)
RESIDUAL = (*BASIC, *PREACTIVATED, *THREE, InvertedResidual)


def filter_sites(model: nn.Module) -> list[FilterSite]:
    """Return the convolutions whose filters may go, in the model's order; maybe none."""
    blocks = {
        name: module for name, module in model.named_modules() if isinstance(module, RESIDUAL)
    }
    if not blocks:
        return _chain(model)
    return [site for name, block in blocks.items() for site in _in_block(name, block)]


def block_sites(model: nn.Module) -> list[BlockSite]:
    """Return all residual blocks in the model's order; none for a plain chain."""
    sites: list[BlockSite] = []
    last_sum: tuple[str, int] | None = None
    inverted = 0
    for name, block in model.named_modules():
        if isinstance(block, InvertedResidual):
            width = block.out_channels
            if not block.use_res_connect:
                inverted += 1
            stage = f"stage{inverted}"
            removable = block.use_res_connect and last_sum == (stage, width)
            last_sum = (stage, width) if block.use_res_connect else last_sum
            conv = f"{name}.conv"
            size = len(block.conv)
            convs = tuple(
                f"{name}.{inner}" for inner, m in block.named_modules() if isinstance(m, nn.Conv2d)
            )
            sites.append(
                BlockSite(name, stage, convs, f"{conv}.{size - 1}", f"{conv}.{size - 1}", removable)
            )
        elif isinstance(block, RESIDUAL):
            sites.append(_block(name, block, first=not sites))
    return sites


def _block(name: str, block: nn.Module, *, first: bool) -> BlockSite:
    count = 3 if isinstance(block, THREE) else 2
    convs = tuple(f"{name}.{conv}" for conv in _convs(block, count))
    ends_in_norm = not isinstance(block, PREACTIVATED)
    norm = f"{name}.bn{count}" if ends_in_norm else None
    branch = norm if norm is not None else convs[-1]
    return BlockSite(
        name, name.rpartition(".")[0], convs, norm, branch, _keeps_shape(block) and not first
    )


def _convs(block: nn.Module, count: int) -> list[str]:
    """Return the names of a block's convolutions, without the shortcut's."""
    if isinstance(block, DMWideBlock):
        return ["conv_0", "conv_1"]
    if isinstance(block, DMPreActBlock):
        return ["conv_2d_1", "conv_2d_2"]
    return [f"conv{number}" for number in range(1, count + 1)]


def _keeps_shape(block: nn.Module) -> bool:
    """Return whether the shortcut passes the input on unchanged."""
    if isinstance(block, Bottleneck | ImageNetBlock):
        return block.downsample is None
    if isinstance(block, DMWideBlock):
        return block.shortcut is None and block.stride == 1
    if isinstance(block, DMPreActBlock):
        return block.shortcut is None
    if isinstance(block, WideBlock):
        return block.convShortcut is None and block.conv1.stride == (1, 1)
    if isinstance(block, PreActBlock):
        return block.shortcut is None
    assert isinstance(block, (*BASIC, NarrowBlock))
    return isinstance(block.shortcut, nn.Sequential) and len(block.shortcut) == 0


def _in_block(name: str, block: nn.Module) -> list[FilterSite]:
    if isinstance(block, InvertedResidual):
        if len(block.conv) < 4:  # the first stage has no expansion
            return []
        active, gate = f"{name}.conv.0.2", f"{name}.conv.1.2"
        return [FilterSite(f"{name}.conv.0.0", active, gate, f"{name}.conv.0.1")]
    if isinstance(block, SWISH):
        conv, active = f"{name}.{_convs(block, 2)[0]}", f"{name}.relu_1"
        return [FilterSite(conv, active, active, f"{name}.batchnorm_1")]
    if isinstance(block, THREE):
        if not _keeps_shape(block):
            return []
        return [
            FilterSite(f"{name}.conv{i}", f"{name}.relu{i}", f"{name}.relu{i}", f"{name}.bn{i}")
            for i in (1, 2)
        ]
    number = 2 if isinstance(block, PREACTIVATED) else 1
    relu = f"{name}.relu{number}"
    return [FilterSite(f"{name}.conv1", relu, relu, f"{name}.bn{number}")]


def _chain(model: nn.Module) -> list[FilterSite]:
    """Return a plain network's convolutions but the last, each with the next BatchNorm and ReLU."""
    sites: list[FilterSite] = []
    conv: str | None = None
    norm: str | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            conv, norm = name, None
        elif isinstance(module, nn.BatchNorm2d) and conv is not None:
            norm = name
        elif isinstance(module, nn.ReLU) and conv is not None:
            sites.append(FilterSite(conv, name, name, norm))
            conv = None
    return sites[:-1]
