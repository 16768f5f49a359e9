"""Layouts in which people bring weights: each loads and gives their network's logits, or is refused with what helps."""

import argparse
import copy
import datetime
import logging
import pathlib
import re
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from networks import network
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from advprune.errors import UserError
from advprune.models import foreign
from advprune.models.building_blocks import Normalize
from advprune.models.cifar_resnet import CifarResNet

State = dict[str, Tensor]
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def made(seed: int, **options: Any) -> nn.Module:
    """A small CIFAR ResNet whose BatchNorms do something."""
    torch.manual_seed(seed)
    given = {
        "num_classes": 10,
        "in_channels": 3,
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    net = CifarResNet(**{**given, "depth": 8, "width": 4, "shortcut": "B", **options})
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return net.eval()


def state(seed: int = 0) -> State:
    return OrderedDict(made(seed).state_dict())


def under(prefix: str, weights: State) -> State:
    return OrderedDict((prefix + name, tensor) for name, tensor in weights.items())


def renamed(*pairs: tuple[str, str]) -> State:
    weights = state()
    for old, new in pairs:
        weights = OrderedDict((re.sub(old, new, name), tensor) for name, tensor in weights.items())
    return weights


def convolutions(net: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def pruned() -> nn.Module:
    net = made(0)
    for _, module in convolutions(net):
        prune.l1_unstructured(module, "weight", 0.5)
    return net


def masks(suffix: str) -> State:
    draw = torch.Generator().manual_seed(2)
    return {
        f"{name}{suffix}": (torch.rand(module.weight.shape, generator=draw) > 0.5).float()
        for name, module in convolutions(made(0))
    }


def masked() -> nn.Module:
    net = made(0)
    for name, mask in masks("").items():
        net.get_submodule(name).weight.data.mul_(mask)
    return net


class Mask(nn.Module):
    """A parametrization that keeps its mask as a buffer."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def parametrized(change: Callable[[str, nn.Module], Any]) -> nn.Module:
    net = made(0)
    for name, module in convolutions(net):
        change(name, module)
    return net.eval()


def mask_parametrized() -> nn.Module:
    values = masks("")
    return parametrized(
        lambda name, module: parametrize.register_parametrization(
            module, "weight", Mask(values[name])
        )
    )


def spectral(change: Callable[..., Any]) -> nn.Module:
    net = parametrized(lambda _, module: change(module)).train()
    with torch.no_grad():
        net(IMAGES)
    return net.eval()


def same(weights: Any) -> tuple[Any, nn.Module]:
    """A payload that is the network ``made(0)``."""
    return weights, made(0)


def of(net: nn.Module) -> tuple[Any, nn.Module]:
    """A payload that is the state dict of ``net``, which says itself what it computes."""
    return net.state_dict(), net


def averaged() -> tuple[Any, nn.Module]:
    return torch.optim.swa_utils.AveragedModel(made(0)).state_dict(), made(0)


def robustness() -> State:
    """MadryLab's ``AttackerModel``: the network twice, and its pixel constants twice."""
    constants = {"new_mean": torch.full((3, 1, 1), 0.5), "new_std": torch.full((3, 1, 1), 0.25)}
    return {
        **under("module.normalizer.", constants),
        **under("module.model.", state()),
        **under("module.attacker.normalize.", constants),
        **under("module.attacker.model.", state()),
    }


BEARPAW = ((r"shortcut", "downsample"), (r"^linear", "fc"))
CONSTANTS = {"mean": torch.full((1, 3, 1, 1), 0.5), "std": torch.full((1, 3, 1, 1), 0.25)}
HALF = {
    name: tensor.half() if tensor.is_floating_point() else tensor
    for name, tensor in state().items()
}
ROUNDED = made(0)
ROUNDED.load_state_dict(
    {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in HALF.items()
    }
)

LOADS: dict[str, Callable[[], tuple[Any, nn.Module]]] = {
    "plain": lambda: same(state()),
    "parameters": lambda: same({n: nn.Parameter(t) if t.ndim else t for n, t in state().items()}),
    "dataparallel": lambda: same(under("module.", state())),
    "dataparallel in state_dict": lambda: same(
        {"state_dict": under("module.", state()), "epoch": 3}
    ),
    "module on convolutions only": lambda: same(renamed((r"^(.*conv\d)", r"module.\1"))),
    "module inside": lambda: same(renamed((r"^layer(\d)\.", r"layer\1.module."))),
    "prefix on all but the classifier": lambda: same(renamed((r"^(?!linear)", "backbone."))),
    "prefix and another classifier": lambda: same(
        renamed((r"^(?!linear)", "backbone."), (r"^linear", "head.fc"))
    ),
    "three prefixes": lambda: same(under("model.net.encoder.", state())),
    "compiled": lambda: same(under("_orig_mod.", state())),
    "compiled inside": lambda: same(renamed((r"^layer(\d)\.", r"layer\1._orig_mod."))),
    "compiled dataparallel": lambda: same(under("module._orig_mod.", state())),
    "fsdp": lambda: same(
        under("_fsdp_wrapped_module.", renamed((r"^(layer\d\.\d)", r"\1._fsdp_wrapped_module")))
    ),
    "checkpointed": lambda: same(renamed((r"^(layer\d\.\d)", r"\1._checkpoint_wrapped_module"))),
    "sequential": lambda: same(under("1.", state())),
    "sequential with constants": lambda: same({**under("0.", CONSTANTS), **under("1.", state())}),
    "normalize and model": lambda: same(
        {**under("normalize.", CONSTANTS), **under("model.", state())}
    ),
    "mu and sigma": lambda: same({"mu": CONSTANTS["mean"], "sigma": CONSTANTS["std"], **state()}),
    "mean and std of three": lambda: same(
        {"mean": torch.full((3,), 0.5), "std": torch.full((3,), 0.25), **state()}
    ),
    "constants of bytes": lambda: same(
        {"mean": torch.full((3,), 127.5), "std": torch.full((3,), 63.75), **state()}
    ),
    "smoothing": lambda: same(
        {
            "epoch": 3,
            "arch": "cifar_resnet110",
            "state_dict": under("1.", renamed(*BEARPAW)),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        }
    ),
    "smoothing of imagenet": lambda: same({"state_dict": under("1.module.", renamed(*BEARPAW))}),
    "robustness": lambda: same(
        {"model": robustness(), "optimizer": {"state": {}}, "schedule": None, "epoch": 3}
    ),
    "lightning": lambda: same(
        {
            "state_dict": under("net.", state()),
            "callbacks": {},
            "loops": {"fit": {}},
            "pytorch-lightning_version": "2.1.0",
            "hyper_parameters": {"lr": 0.1},
        }
    ),
    "lightning with metrics": lambda: same(
        {
            "state_dict": {
                **under("net.", state()),
                "val_acc_best.value": torch.tensor(0.0),
                "train_acc.correct": torch.zeros(10),
                "criterion.weight": torch.ones(10),
            }
        }
    ),
    "lightning with an average": lambda: same(
        {"state_dict": {**under("net.", state()), **under("ema_net.", state(1))}}
    ),
    "last and best": lambda: same({"last": state(1), "best": state()}),
    "model_state": lambda: same({"model_state": state()}),
    "model_state_dict, unaveraged beside": lambda: same(
        {
            "model_state_dict": state(),
            "unaveraged_model_state_dict": state(1),
            "optimizer_state_dict": {},
        }
    ),
    "state_dict_ema beside": lambda: same({"state_dict": state(), "state_dict_ema": state(1)}),
    "ema": lambda: same({"ema": under("module.", state()), "step": 3}),
    "params": lambda: same({"params": state()}),
    "net": lambda: same({"net": state(), "acc": 91.7}),
    "a nest of another name": lambda: same({"resnet": state(), "epoch": 3}),
    "nests in nests": lambda: same(
        {"checkpoint": {"model": {"state_dict": under("module.", state())}}}
    ),
    "a list": lambda: same([3, state(), {"lr": 0.1}]),
    "tensors beside the nest": lambda: same(
        {
            "state_dict": state(),
            "rng": torch.zeros(8).byte(),
            "best_acc": torch.tensor(91.7),
            "x": torch.zeros(3),
        }
    ),
    "numbers in the state dict": lambda: same(
        {**state(), "epoch": 3, "best_acc": torch.tensor(0.9), "arch": "r8"}
    ),
    "two networks, of which one fits": lambda: same(
        {"model": state(), "net": made(0, depth=14).state_dict()}
    ),
    "averaged": averaged,
    "thop": lambda: same(
        {**state(), "total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)}
    ),
    "no counters": lambda: same({n: t for n, t in state().items() if "num_batches" not in n}),
    "half": lambda: (HALF, ROUNDED),
    "double": lambda: same(
        {n: t.double() if t.is_floating_point() else t for n, t in state().items()}
    ),
    "sparse": lambda: same({n: t.to_sparse() if t.ndim == 4 else t for n, t in state().items()}),
    "numpy arrays": lambda: same({n: t.numpy() for n, t in state().items() if t.ndim}),
    "numpy scalars": lambda: same(
        {"state_dict": state(), "best_prec1": np.float64(91.7), "epoch": np.int64(3)}
    ),
    "namespace": lambda: same(
        {"state_dict": state(), "args": argparse.Namespace(lr=0.1, data=pathlib.Path("x"))}
    ),
    "odd things beside": lambda: same(
        {
            "net": state(),
            "when": datetime.datetime(2024, 1, 1),
            "kept": deque([1, 2]),
            "log": defaultdict(list, a=[1.0]),
        }
    ),
    "fc": lambda: same(renamed((r"^linear", "fc"))),
    "classifier": lambda: same(renamed((r"^linear", "classifier.1"))),
    "downsample": lambda: same(renamed((r"shortcut", "downsample"))),
    "another stem": lambda: same(renamed((r"^conv1", "stem.conv"), (r"^bn1", "stem.norm"))),
    "pruned": lambda: of(pruned()),
    "pruned in a sequential": lambda: (under("1.", pruned().state_dict()), pruned()),
    "mask buffers": lambda: ({**state(), **masks(".mask")}, masked()),
    "masks beside by layer": lambda: ({"state_dict": state(), "masks": masks("")}, masked()),
    "masks beside by weight": lambda: (
        {
            "model": under("module.", state()),
            "mask": {
                name: mask.bool() for name, mask in under("module.", masks(".weight")).items()
            },
        },
        masked(),
    ),
    "masks by parametrization": lambda: of(mask_parametrized()),
    "weight norm": lambda: of(parametrized(lambda _, module: parametrizations.weight_norm(module))),
    "old weight norm": lambda: of(parametrized(lambda _, module: nn.utils.weight_norm(module))),
    "spectral norm": lambda: of(spectral(parametrizations.spectral_norm)),
    "old spectral norm": lambda: of(spectral(nn.utils.spectral_norm)),
    "a parametrization without tensors": lambda: of(
        parametrized(
            lambda _, module: parametrize.register_parametrization(module, "weight", nn.Identity())
        )
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("layout", LOADS)
def test_a_sound_layout_loads_and_gives_its_networks_logits(tmp_path: Path, layout: str) -> None:
    payload, expected = LOADS[layout]()
    torch.save(payload, tmp_path / "weights.pt")
    net = made(5)
    foreign.load(net, tmp_path / "weights.pt")
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(IMAGES), expected(IMAGES), rtol=1e-6, atol=1e-6)


def test_safetensors_load_as_well(tmp_path: Path) -> None:
    save_file(under("1.", renamed(*BEARPAW)), tmp_path / "weights.safetensors")
    net = made(5)
    foreign.load(net, tmp_path / "weights.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(net(IMAGES), made(0)(IMAGES), rtol=1e-6, atol=1e-6)


def test_a_plain_network_numbered_behind_its_normalisation_loads(tmp_path: Path) -> None:
    theirs = nn.Sequential(
        Normalize([0.5], [0.25]),
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    net = network("cnn_small", in_channels=1, image_size=8, mean=[0.5], std=[0.25])
    foreign.load(net, tmp_path / "w.pt")
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(net(x), theirs(x), rtol=1e-6, atol=1e-6)


TOLD = {
    "last and best": "took the weights under best, and not those under last, which would fit too",
    "lightning with an average": "took the network under net, of net, ema_net",
    "downsample": "read the layers layer2.0.downsample.0 as layer2.0.shortcut.0",
    "pruned": r"applied the masks in it to 10 layers, which set \d+ of \d+ weights to zero",
    "thop": r"left out the counters in it \(total_ops, conv1.total_params\)",
    "sequential with constants": "its pixel constants are those in use",
    "weight norm": "undid the weight norm",
    "a parametrization without tensors": "weights as they are before a parametrization",
}


@pytest.mark.parametrize("layout", TOLD)
def test_what_was_understood_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    torch.save(LOADS[layout]()[0], tmp_path / "weights.pt")
    with caplog.at_level(logging.INFO):
        loaded = foreign.load(made(5), tmp_path / "weights.pt")
    assert re.search(TOLD[layout], "\n".join([*loaded.notes, *loaded.doubts]))
    assert re.search(TOLD[layout], caplog.text)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.4914, 0.2471)])
def test_other_pixel_constants_are_a_doubt_that_names_the_words(
    tmp_path: Path, mean: float, std: float
) -> None:
    constants = {"mean": torch.full((3, 1, 1), mean), "std": torch.full((3, 1, 1), std)}
    torch.save({**constants, **state()}, tmp_path / "weights.pt")
    (doubt,) = foreign.load(made(5), tmp_path / "weights.pt").doubts
    assert "mean=[0.5,0.5,0.5] std=[0.25,0.25,0.25]), which stay in use" in doubt
    words = dict(re.findall(r"model\.(mean|std)=(\[[^\]]*\])", doubt))
    again = made(5, **{name: yaml.safe_load(value) for name, value in words.items()})
    assert foreign.load(again, tmp_path / "weights.pt").doubts == []


def test_equal_numbers_need_no_choice_and_no_word_of_it(tmp_path: Path) -> None:
    torch.save({"model": state(), "ema": state()}, tmp_path / "weights.pt")
    assert foreign.load(made(5), tmp_path / "weights.pt").notes == []


def changed(name: str, tensor: Tensor) -> State:
    return {**state(), name: tensor}


def unfinished() -> State:
    with torch.device("meta"):
        return made(0).state_dict()


def weird() -> nn.Module:
    return parametrized(
        lambda _, module: (
            parametrizations.orthogonal(module) if isinstance(module, nn.Linear) else None
        )
    )


def without_parametrizations() -> State:
    net = weird()
    parametrize.remove_parametrizations(net.linear, "weight")
    return net.state_dict()


NAN = torch.full((10,), float("nan"))
#: A payload, what its refusal says, and the payload once that was done.
REFUSED: dict[str, tuple[Callable[[], Any], str, Callable[[], Any]]] = {
    "complex": (
        lambda: changed("linear.bias", torch.zeros(10, dtype=torch.complex64)),
        r"complex numbers \(linear.bias\): give a network of real ones",
        state,
    ),
    "integers": (
        lambda: {n: (t * 127).to(torch.int8) for n, t in state().items()},
        "conv1.weight is int8.*give the float weights",
        state,
    ),
    "meta": (unfinished, "without numbers.*save it after the weights were loaded", state),
    "quantized": (
        lambda: changed(
            "conv1.weight", torch.quantize_per_tensor(state()["conv1.weight"], 0.1, 0, torch.qint8)
        ),
        r"quantized tensors \(conv1.weight\): give the float",
        state,
    ),
    "nan": (lambda: changed("linear.bias", NAN), "not finite.*train it again", state),
    "infinite once cast": (
        lambda: changed("linear.bias", torch.full((10,), 1e300, dtype=torch.double)),
        "not finite",
        state,
    ),
    "negative variance": (
        lambda: changed("bn1.running_var", torch.full((4,), -1.0)),
        r"variances below zero \(bn1.running_var\)",
        state,
    ),
    "two of one layer": (
        lambda: {**state(), **under("module.", state(1))},
        "conv1.weight and module.conv1.weight for one layer.*save one of them alone",
        state,
    ),
    "a weight and its original": (
        lambda: {
            **state(),
            "conv1.weight_orig": state(1)["conv1.weight"],
            "conv1.weight_mask": masks("")["conv1"],
        },
        "conv1.weight and conv1.weight_orig for one layer: save one of them alone",
        state,
    ),
    "two networks": (
        lambda: {**under("student.", state()), **under("net.", state(1))},
        "the network 2 times, under net, student: save the one that is meant alone",
        lambda: under("student.", state()),
    ),
    "two nests": (
        lambda: {"robust": state(), "standard": state(1)},
        "fit under robust and standard: save those that are meant alone",
        lambda: {"robust": state()},
    ),
    "masks of nothing": (
        lambda: {"state_dict": state(), "masks": {"conv7": torch.ones(3)}},
        r"masks for layers that are not in it \(conv7\).*save the weights alone",
        state,
    ),
    "scores for masks": (
        lambda: {"state_dict": state(), "masks": {"conv1": torch.rand(4, 3, 3, 3)}},
        "no mask of conv1.weight: a mask has its shape and holds 0 and 1 alone",
        state,
    ),
    "a parametrization": (
        lambda: weird().state_dict(),
        "call .*remove_parametrizations",
        without_parametrizations,
    ),
    "more than the network": (
        lambda: {**state(), "layer9.weight": torch.ones(3)},
        "if that is right, save the others alone, without layer9.weight",
        state,
    ),
    "a layer behind the network": (
        lambda: {**under("0.", state()), "1.weight": torch.ones(10, 10)},
        "unexpected: 1.weight",
        state,
    ),
    "a class": (lambda: made(0), "CifarResNet.*convert it.*model.state_dict()", state),
    "expanded": (
        lambda: changed("linear.weight", torch.zeros(1).expand(10**6, 10**6)),
        "shapes: linear.weight",
        state,
    ),
}


def refusal(net: nn.Module, path: Path) -> str:
    with pytest.raises(UserError) as error:
        foreign.load(net, path)
    assert str(error.value).count("\n") == 0
    return str(error.value)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize("layout", REFUSED)
def test_what_cannot_be_a_network_is_refused_with_a_cure_that_works(
    tmp_path: Path, layout: str
) -> None:
    payload, message, cured = REFUSED[layout]
    torch.save(payload(), tmp_path / "weights.pt")
    net = made(5)
    before = copy.deepcopy(net.state_dict())
    said = refusal(net, tmp_path / "weights.pt")
    assert re.search(message, said), said
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    torch.save(cured(), tmp_path / "weights.pt")
    foreign.load(net, tmp_path / "weights.pt")


#: Networks that are not the one asked for: the message names the words that choose them.
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "width": ("resnet20", {"width": 8, "depth": 8}),
    "depth": ("resnet20", {"depth": 14, "width": 4}),
    "shortcut": ("resnet20", {"shortcut": "projection"}),
    "wrn": ("wrn_28_10", {"depth": 16, "widen": 2}),
    "preact": ("preact_resnet18", {"width": 8, "final_norm": False}),
    "cnn": ("small_cnn", {"widths": [4, 6, 8]}),
    "vgg": ("vgg16_bn", {"hidden": 32}),
    "mobilenet": ("mobilenet_v2", {"width": 0.5}),
    "dm": ("dm_preact_resnet18", {"width": 8}),
    "cifar50": ("resnet50_cifar", {"width": 4}),
    "imagenet": ("resnet18_imagenet", {}),
    "dm_wrn": ("dm_wrn_28_10", {"depth": 16, "widen": 2}),
    "blocks": ("resnet50", {"blocks": [1, 2, 1, 1]}),
    "classes": ("resnet18", {"num_classes": 7, "width": 8}),
}


@pytest.mark.parametrize("layout", OTHERS)
def test_another_network_is_refused_with_the_words_that_choose_it(
    tmp_path: Path, layout: str
) -> None:
    name, options = OTHERS[layout]
    theirs = network(name, **options)
    beside = {"mu": torch.full((1, 3, 1, 1), 0.5), "sigma": torch.full((1, 3, 1, 1), 0.25)}
    torch.save(
        {"state_dict": beside | under("module.", theirs.state_dict())}, tmp_path / "weights.pt"
    )
    said = refusal(made(5), tmp_path / "weights.pt")
    cure = re.search(r"it fits model=(\w+)((?: model\.\S+=[^\s,]*(?:,\d+[,\]\d]*)*)*)", said)
    assert cure, said
    words = dict(re.findall(r"model\.(\w+)=(\S+?)(?=,? |,?$)", cure[2]))
    classes = re.search(r"a dataset of (\d+) classes", said)
    given = {word: yaml.safe_load(value) for word, value in words.items()}
    mine = network(cure[1], num_classes=int(classes[1]) if classes else 10, **given)
    foreign.load(mine, tmp_path / "weights.pt")
    assert mine.state_dict().keys() == theirs.state_dict().keys()
