"""Build a network of torchvision's or timm's by its name, with a layer that normalises pixels.

Weights start at the library's own initial values; ``dense=FILE`` starts from weights in a file.
"""

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.building_blocks import Normalize


class AsColour(nn.Module):
    """Show grey images to a network for colour, as three equal channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 1, H, W) as (N, 3, H, W)."""
        return x.expand(-1, 3, -1, -1)


def torchvision_network(
    *,
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int,
    mean: list[float],
    std: list[float],
) -> nn.Sequential:
    """Build a classifier of torchvision's; grey images are shown to it in three equal channels.

    Args:
        name: as ``torchvision.models.list_models()`` has it, such as ``resnet18``.
        num_classes: number of logits.
        in_channels: channels of the images, 1 or 3.
        image_size: not looked at: these networks average their last map.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.

    Raises:
        UserError: if there is no such classifier, or it returns auxiliary outputs while it trains.
    """
    from torchvision import models

    del image_size
    _check_name("torchvision", name, models.list_models(module=models))
    net = models.get_model(name, weights=None, num_classes=num_classes)
    if any(child.lower().startswith("aux") for child, _ in net.named_children()):
        raise UserError(
            f"torchvision's {name} returns a tuple while it trains, for its auxiliary classifiers: "
            "choose another network; GoogLeNet without them is model=googlenet"
        )
    grey = {"colour": AsColour()} if in_channels == 1 else {}
    return _normalised(net, Normalize(mean, std, in_channels), grey)


def timm_network(
    *,
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int,
    mean: list[float],
    std: list[float],
) -> nn.Sequential:
    """Build a network of timm's.

    Args:
        name: as ``timm.list_models()`` has it, such as ``resnet18``.
        num_classes: number of logits.
        in_channels: channels of the images.
        image_size: side of the square images, in pixels; transformers are built for it.
        mean: per-channel mean, in [0, 1] pixel units.
        std: per-channel standard deviation, in [0, 1] pixel units.

    Raises:
        UserError: if timm is not installed, or has no such network.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise UserError(
            'model=timm needs timm, which is not installed: pip install "advprune[timm]"'
        ) from None
    _check_name("timm", name, timm.list_models())
    net = timm.create_model(name, num_classes=num_classes, in_chans=in_channels)
    resizable = getattr(net, "set_input_size", None)
    if resizable is not None:
        resizable(img_size=image_size)
    return _normalised(net, Normalize(mean, std, in_channels), {})


def _check_name(library: str, name: str, names: Iterable[str]) -> None:
    known = list(names)
    if name in known:
        return
    near = ", ".join(difflib.get_close_matches(name, known, n=3)) or known[0]
    raise UserError(
        f"model.name={name} is none of {library}'s {len(known)} networks: did you mean {near}?"
    )


def _normalised(
    net: nn.Module, normalize: Normalize, grey: Mapping[str, nn.Module]
) -> nn.Sequential:
    return nn.Sequential(OrderedDict(normalize=normalize, **grey, net=net))
