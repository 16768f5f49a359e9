"""Small networks of every kind, for tests of what removes parts of them."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

CONF = Path(__file__).resolve().parents[1] / "conf"
#: Every architecture of the project, narrowed where that changes nothing but the time.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "small_cnn": ("small_cnn", {}),
    "cnn_small": ("cnn_small", {}),
    "cnn_large": ("cnn_large", {}),
    "resnet_a": ("resnet20", {}),
    "resnet_b": ("resnet20", {"shortcut": "B"}),
    "resnet_projection": ("resnet20", {"shortcut": "projection"}),
    "resnet18": ("resnet18", {"depth": 34, "width": 8}),
    "preact_resnet18": ("preact_resnet18", {"depth": 34, "width": 8}),
    "vgg16_bn": ("vgg16_bn", {"hidden": 16}),
    "vgg_bn_drop": ("vgg_bn_drop", {}),
    "vgg16_linear": ("vgg16_linear", {"width": 8}),
    "wrn": ("wrn_28_4", {"depth": 22, "widen": 1}),
    "mobilenet_v2": ("mobilenet_v2", {"width": 0.5}),
    "resnet50": ("resnet50", {}),
    "dm_wrn": ("dm_wrn_28_10", {"depth": 22, "widen": 1}),
    "dm_preact": ("dm_preact_resnet18", {"depth": 34, "width": 8}),
    "resnet50_cifar": ("resnet50_cifar", {"width": 8}),
    "resnet18_imagenet": ("resnet18_imagenet", {"blocks": [2, 3, 2, 2]}),
}
RESIDUAL = (
    "resnet_a",
    "resnet_b",
    "resnet_projection",
    "resnet18",
    "preact_resnet18",
    "wrn",
    "mobilenet_v2",
    "resnet50",
    "dm_wrn",
    "dm_preact",
    "resnet50_cifar",
    "resnet18_imagenet",
)


def network(model: str, **options: Any) -> nn.Module:
    """A network by its YAML for 32x32 RGB images and ten classes."""
    node = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{model}.yaml"))
    assert isinstance(node, dict)
    fixed = {
        "num_classes": 10,
        "in_channels": 3,
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    torch.manual_seed(0)
    return instantiate({**node, **fixed, **options})


def lively(kind: str) -> nn.Module:
    """A network of ``KINDS`` in eval mode whose BatchNorms shift, so that a filter of zeros is not a silent one."""
    model, options = KINDS[kind]
    net = network(model, **options)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def merged_pruner(name: str) -> Any:
    """A pruner's YAML on top of those that it starts from, without the other groups'."""
    own = OmegaConf.load(CONF / "pruner" / f"{name}.yaml")
    earlier = [n for n in own.pop("defaults", []) if isinstance(n, str) and n != "_self_"]
    return OmegaConf.merge(*(merged_pruner(n) for n in earlier), own)


class OwnNet(nn.Sequential):
    """A network as a user writes it: no YAML, and of its images it asks for the classes and channels alone."""

    def __init__(self, num_classes: int, in_channels: int = 1, width: int = 4) -> None:
        super().__init__(
            nn.Conv2d(in_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, num_classes),
        )


class TwoOutputs(OwnNet):
    """A network that returns more than its logits."""

    def forward(self, x: Any) -> Any:
        return super().forward(x), x
