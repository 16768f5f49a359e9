"""Find the network of ``conf/model`` that a file of weights fits."""

import importlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor, nn

from advprune.models.checkpoints.fitted_options import SIDES, fitted_options
from advprune.models.checkpoints.meta_network import Options

CONF = Path(__file__).resolve().parents[4] / "conf" / "model"
#: What Hydra calls a value that the user has to give.
ANY = "???"
GIVEN = ("num_classes", "in_channels", "image_size", "mean", "std")


@dataclass(frozen=True)
class Choice:
    """A network that fits a file.

    Args:
        words: that choose it on the command line.
        demands: what else must be chosen: the classes and channels of the data set.
    """

    words: str
    demands: list[str]


def fitting(theirs: dict[str, Tensor], model: nn.Module) -> Choice | None:
    """Find the network with the fewest options changed that the weights fit, or None.

    Args:
        theirs: the file's weights, in plain form.
        model: the network they did not fit, for the classes and channels of its data set.
    """
    layers = [
        tensor for name, tensor in theirs.items() if name.endswith("weight")
    ]  # not a mean of (1, C, 1, 1)
    wide = [tensor for tensor in layers if tensor.ndim == 4]
    last = [tensor for tensor in layers if tensor.ndim == 2]
    if not last:
        return None
    first = wide[0].shape[1] if wide else 1
    data = {
        "num_classes": last[-1].shape[0],
        "in_channels": first,
        "image_size": SIDES[0],
        "mean": [0.5] * first,
        "std": [0.5] * first,
    }
    for target, members in _families().items():
        module, _, name = target.rpartition(".")
        builder = getattr(importlib.import_module(module), name)
        smallest = min(members.values(), key=lambda options: options.get("depth", 0))
        fitted = fitted_options(builder, smallest, data, theirs)
        if fitted is not None:
            return Choice(_words(members, fitted), _demands(data, model))
    return None


def _families() -> dict[str, dict[str, Options]]:
    """Return the members of ``conf/model`` with their options, by their ``_target_``.

    Left out are those that may be any network: the user's own, and a library's by its name.
    """
    families: dict[str, dict[str, Options]] = {}
    for path in sorted(CONF.glob("*.yaml")):
        options = {
            name: value
            for name, value in yaml.safe_load(path.read_text()).items()
            if name not in GIVEN
        }
        target = options.pop("_target_")
        if target != ANY and "name" not in options:
            families.setdefault(target, {})[path.stem] = options
    return families


def _words(members: dict[str, Options], fitted: Options) -> str:
    """Return the overrides for the member whose options change the least."""
    changed = {
        member: [
            f"model.{name}={_word(value)}"
            for name, value in fitted.items()
            if options[name] != value
        ]
        for member, options in members.items()
    }
    nearest = min(changed, key=lambda member: (len(changed[member]), len(member), member))
    return " ".join([f"model={nearest}", *changed[nearest]])


def _demands(data: Options, model: nn.Module) -> list[str]:
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    demands = []
    if (
        layers
        and isinstance(layers[-1], nn.Linear)
        and layers[-1].out_features != data["num_classes"]
    ):
        demands.append(f"a dataset of {data['num_classes']} classes")
    if layers and isinstance(layers[0], nn.Conv2d) and layers[0].in_channels != data["in_channels"]:
        demands.append(f"images of {data['in_channels']} channels")
    return demands


def _word(value: object) -> str:
    return str(value).replace(" ", "").lower() if isinstance(value, bool | list) else str(value)
