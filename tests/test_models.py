"""The networks: exact sizes, exact functions, every image size, and weights that are known to be right."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pyautoattack
import pytest
import torch
import torchvision
import yaml
from safetensors.torch import save_file
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from advprune.config.groups import Network
from advprune.config.stage_options import Dense, Weights
from advprune.errors import UserError
from advprune.models import foreign
from advprune.models.ambiguities import unsettled
from advprune.models.building_blocks import Normalize
from advprune.models.preact_resnet import PreActBlock
from advprune.report.table.job_row import doubts_of_stages
from advprune.stages import dense
from advprune.store.stage import Stage

#: Members that are any network of the user's or of a library: tests/test_own_code.py, test_library.py.
ANY = {"custom", "timm", "torchvision"}
CONFIGS = {
    path.stem: path
    for path in sorted((Path(__file__).parents[1] / "conf" / "model").glob("*.yaml"))
    if path.stem not in ANY
}
AKAMASTER = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PIXELS = ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])


def target(name: str) -> tuple:
    """The builder a YAML names, and its options."""
    options = yaml.safe_load(CONFIGS[name].read_text())
    module, _, attribute = options.pop("_target_").rpartition(".")
    return getattr(importlib.import_module(module), attribute), options


def build(
    name: str, size: int = 32, channels: int = 3, classes: int = 10, **overrides
) -> nn.Module:
    torch.manual_seed(0)
    builder, options = target(name)
    constants = {"mean": [0.4] * channels, "std": [0.25] * channels}
    arguments = {**options, **constants, **overrides}
    return builder(num_classes=classes, in_channels=channels, image_size=size, **arguments)


def prunable(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def macs(model: nn.Module, size: int = 32) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", CONFIGS)
def test_a_yaml_gives_exactly_the_options_of_its_builder(name):
    builder, options = target(name)
    parameters = inspect.signature(builder).parameters
    assert all(
        p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in parameters.values()
    )
    assert set(options) == set(parameters) - {"num_classes", "in_channels", "image_size"}
    assert options["mean"] is None
    assert options["std"] is None


@pytest.mark.parametrize("name", CONFIGS)
def test_the_header_of_a_yaml_states_the_parameter_count(name):
    special = {"small_cnn": {"size": 8, "channels": 1}, "resnet50": {"classes": 1000}}
    count = sum(
        parameter.numel() for parameter in build(name, **special.get(name, {})).parameters()
    )
    assert f"{count:,} parameters" in CONFIGS[name].read_text()


@pytest.mark.parametrize("size", [(1, 8), (1, 28), (3, 32)], ids=["digits", "mnist", "cifar"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_network_runs_on_every_image_size_and_trains_all_its_parameters(name, size):
    channels, side = size
    model = build(name, side, channels, classes=7).train()
    logits = model(torch.rand(2, channels, side, side))
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_network_starts_with_normalize_and_can_be_traced_and_reloaded(name):
    model = build(name, 8, 1).eval()
    x = torch.rand(3, 1, 8, 8)
    traced = fx.symbolic_trace(model)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(traced(x), expected)
        model.normalize, constants = Normalize([0.0], [1.0]), model.normalize
        torch.testing.assert_close(model(constants(x)), expected)

    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    activations = [
        key for key in called if isinstance(model.get_submodule(key), nn.ReLU | nn.ReLU6 | nn.SiLU)
    ]
    assert len(activations) == len(set(activations)) >= 3
    assert not any(getattr(module, "inplace", False) for module in model.modules())

    state = model.state_dict()
    assert not any("normalize" in key for key in state)
    other = build(name, 8, 1).eval()
    for parameter in other.parameters():
        nn.init.constant_(parameter, 0.5)
    other.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(other(x), expected)


# Parameters, prunable weights and prunable layers: HYDRA's table
# (https://arxiv.org/abs/2002.10509), where the WRNs' totals are without the 269,216 and 1,640,672
# parameters of the block it never uses.
HYDRA = {
    "cnn_small": (214_918, 214_760, 4),
    "cnn_large": (2_466_858, 2_465_632, 7),
    "resnet18": (11_173_962, 11_164_352, 21),
    "vgg16_bn": (15_311_818, 15_302_848, 16),
    "wrn_28_4": (6_118_266 - 269_216, 5_841_840, 29),
    "wrn_28_10": (38_119_866 - 1_640_672, 36_461_232, 29),
}


@pytest.mark.parametrize("name", HYDRA)
def test_counts_are_those_of_hydra(name):
    model = build(name)
    layers = prunable(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert (total, sum(layer.weight.numel() for layer in layers), len(layers)) == HYDRA[name]


def test_resnet50_counts_are_those_of_hydra():
    model = build("resnet50", 224, classes=1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_557_032
    assert sum(layer.weight.numel() for layer in prunable(model)) == 25_502_912


# All parameters, those of convolutions and linear layers but for the classifier (biases too), how
# many such layers, and the multiplications of one 32x32 image in millions:
# https://arxiv.org/abs/2206.07406.
GAP = {
    "resnet20": (269_722, 267_696, 19, 40.55),
    "vgg_bn_drop": (14_991_946, 14_977_344, 14, 313.5),
    "googlenet": (5_610_154, 5_585_344, 57, 30.57),
    "mobilenet_v2": (2_236_682, 2_189_760, 52, 6.12),
    "resnet56": (853_018, 848_304, 55, 125.49),
}


@pytest.mark.parametrize("name", GAP)
def test_counts_are_those_of_greedy_adversarial_pruning(name):
    model = build(
        name, **({"small_images": False} if name in ("mobilenet_v2", "googlenet") else {})
    )
    layers = prunable(model)[:-1]
    total = sum(parameter.numel() for parameter in model.parameters())
    removable = sum(parameter.numel() for layer in layers for parameter in layer.parameters())
    assert (total, removable, len(layers)) == GAP[name][:3]
    assert macs(model) / 1e6 == pytest.approx(GAP[name][3], rel=2e-3)


def test_counts_of_the_keras_resnets_are_those_of_jordao_and_pedrini():
    keras = build("resnet56", shortcut="projection")
    moving = sum(buffer.numel() for key, buffer in keras.named_buffers() if "running" in key)
    filters = sum(layer.out_channels for layer in prunable(keras) if isinstance(layer, nn.Conv2d))
    assert sum(parameter.numel() for parameter in keras.parameters()) + moving == 861_770
    assert filters == 2_128
    assert macs(keras) == 125_747_840
    assert macs(build("resnet110", shortcut="projection")) == 253_149_824
    assert macs(build("resnet56")) == 125_485_696
    assert macs(build("resnet56", depth=14, shortcut="projection")) == 26_657_408


@pytest.mark.parametrize(
    ("name", "depth", "layers"), [("resnet18", 34, 37), ("preact_resnet18", 34, 37)]
)
def test_depth_is_an_option(name, depth, layers):
    assert len(prunable(build(name, depth=depth, width=8))) == layers


def test_wrn_34_10_and_resnet_32_are_overrides():
    # 46.16 M parameters is what the papers that use WRN-34-10 report; 464,154 is akamaster's
    # ResNet-32.
    assert (
        sum(parameter.numel() for parameter in build("wrn_28_10", depth=34).parameters())
        == 46_160_474
    )
    assert (
        sum(parameter.numel() for parameter in build("resnet20", depth=32).parameters()) == 464_154
    )


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("resnet18", {"depth": 20}, "depth=20 .* 18 or 34, or 50, 101 or 152"),
        ("preact_resnet18", {"depth": 50}, "depth=50 .* 18 or 34"),
        ("resnet20", {"depth": 18}, r"depth=18 must be 6n \+ 2"),
        ("resnet20", {"shortcut": "C"}, "shortcut=C .* one of A, B, projection"),
        ("wrn_28_4", {"depth": 27}, r"depth=27 must be 6n \+ 4"),
        ("wrn_28_4", {"widen": 0}, "widen=0"),
        ("dm_wrn_28_10", {"depth": 27}, r"depth=27 must be 6n \+ 4"),
        (
            "dm_wrn_28_10",
            {"activation": "gelu"},
            "activation=gelu is not possible: it must be one of swish, relu",
        ),
        (
            "dm_preact_resnet18",
            {"padding": -1},
            "padding=-1 is not possible: it must be .*at least 0",
        ),
        ("small_cnn", {"widths": [24, 48]}, r"widths=\[24, 48\] must be three"),
        ("small_cnn", {"mean": [0.5]}, "the images have 3"),
        ("small_cnn", {"std": [0.5, 0.0, 0.5]}, "must be positive"),
    ],
)
def test_an_impossible_option_is_refused_in_a_sentence(name, overrides, message):
    with pytest.raises(UserError, match=message):
        build(name, **overrides)


def test_normalize_subtracts_the_mean_and_divides_by_the_std_of_each_channel():
    x = torch.full((1, 2, 1, 1), 0.5)
    assert Normalize([0.25, 1.0], [0.5, 0.25])(x).flatten().tolist() == [0.5, -2.0]
    assert Normalize([0.25, 1.0], [0.5, 0.25]).state_dict() == {}
    assert Normalize([0.25], [0.5]).double().mean.dtype == torch.float64


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_torchvision_networks_keep_their_keys_and_their_function(name):
    mine = build(name, 224, classes=5, mean=PIXELS[0], std=PIXELS[1]).eval()
    theirs = getattr(torchvision.models, name)(num_classes=5).eval()
    theirs.load_state_dict(mine.state_dict())
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x))


def test_googlenet_computes_what_torchvisions_without_heads_does():
    mine = build("googlenet", 96, classes=5, mean=PIXELS[0], std=PIXELS[1]).eval()
    theirs = torchvision.models.googlenet(
        num_classes=5, aux_logits=False, init_weights=False
    ).eval()
    theirs.load_state_dict(mine.state_dict())
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(mine(x), theirs(x))


def randomise(model: nn.Module) -> nn.Module:
    """Statistics and affine maps other than 0 and 1, so that a forgotten normalisation shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    return model.eval()


def active(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{key}.{name}"] for name in names)).clamp(min=0)


def preactivated(
    state: dict[str, Tensor], stages: list[str], shortcut: str, last: str, head: str, x: Tensor
) -> Tensor:
    """A pre-activation network written down from its paper: blocks are told from the keys alone."""
    out = F.conv2d(x, state["conv1.weight"], padding=1)
    for number, stage in enumerate(stages):
        index = 0
        while f"{stage}.{index}.conv1.weight" in state:
            key, stride = f"{stage}.{index}", 2 if number > 0 and index == 0 else 1
            start = active(state, f"{key}.bn1", out)
            inner = active(
                state,
                f"{key}.bn2",
                F.conv2d(start, state[f"{key}.conv1.weight"], stride=stride, padding=1),
            )
            if f"{key}.{shortcut}.weight" in state:
                out = F.conv2d(start, state[f"{key}.{shortcut}.weight"], stride=stride)
            out = out + F.conv2d(inner, state[f"{key}.conv2.weight"], padding=1)
            index += 1
    return F.linear(
        active(state, last, out).mean((2, 3)), state[f"{head}.weight"], state[f"{head}.bias"]
    )


@pytest.mark.parametrize(
    ("name", "overrides", "keys"),
    [
        (
            "wrn_28_4",
            {"depth": 16, "widen": 2},
            ([f"block{n}.layer" for n in (1, 2, 3)], "convShortcut", "bn1", "fc"),
        ),
        (
            "preact_resnet18",
            {"width": 8},
            ([f"layer{n}" for n in (1, 2, 3, 4)], "shortcut.0", "bn", "linear"),
        ),
    ],
)
def test_preactivation_networks_compute_what_their_paper_says(name, overrides, keys):
    model = randomise(build(name, mean=PIXELS[0], std=PIXELS[1], **overrides))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x), preactivated(model.state_dict(), *keys, x), rtol=1e-4, atol=1e-4
        )


def test_vgg_initialisation_is_hydras():
    model = build("vgg16_bn")
    layers = prunable(model)
    assert layers[5].weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
    assert layers[13].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert layers[13].bias.abs().max() == 0


def accuracy(model: nn.Module, shared: Path, count: int) -> float:
    with np.load(shared / "data" / "cifar10_train_4k.npz") as file:
        images = torch.from_numpy(file["images"][:count]).permute(0, 3, 1, 2).float() / 255
        labels = torch.from_numpy(file["labels"][:count]).long()
    with torch.no_grad():
        return (model.eval()(images).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize(
    ("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")]
)
def test_published_weights_are_right_on_their_own_training_images(shared, name, file):
    model = build(name, mean=AKAMASTER[0], std=AKAMASTER[1])
    assert accuracy(model, shared, 100) < 0.3
    foreign.load(model, shared / "weights" / file)
    assert accuracy(model, shared, 300) > 0.98


def test_the_robust_resnet18_of_pyautoattack_loads_strictly_and_is_right(shared):
    model = build("resnet18", mean=PIXELS[0], std=PIXELS[1])
    foreign.load(model, Path(pyautoattack.__file__).parent / "examples" / "model_test.pt")
    assert accuracy(model, shared, 150) > 0.95


def test_a_pre_activation_shortcut_sees_the_raw_or_the_activated_input() -> None:
    """By hand, on a block that changes the shape; a block that does not has no convolution there."""
    x = torch.randn(2, 3, 8, 8)
    for raw in (False, True):
        block = PreActBlock(3, 5, 2, raw=raw).eval()
        nn.init.uniform_(block.bn1.bias, -0.5, 0.5)
        active = F.relu(block.bn1(x))
        branch = F.conv2d(
            F.relu(block.bn2(F.conv2d(active, block.conv1.weight, stride=2, padding=1))),
            block.conv2.weight,
            padding=1,
        )
        assert block.shortcut is not None
        seen = F.conv2d(x if raw else active, block.shortcut[0].weight, stride=2)
        torch.testing.assert_close(block(x), branch + seen)


@pytest.mark.parametrize(
    ("model", "settled"),
    [
        ("preact_resnet18", {"shortcut": "raw"}),
        ("preact_resnet18", {"shortcut": "activated"}),
        ("mobilenet_v2", {"small_images": False}),
        ("mobilenet_v2", {"small_images": True}),
        ("googlenet", {"small_images": False}),
        ("resnet20", {}),
        ("wrn_28_4", {}),
    ],
)
def test_what_a_file_cannot_tell_is_said_until_it_is_chosen(
    model: str, settled: dict[str, Any]
) -> None:
    (option,) = settled or ("none",)
    assert unsettled(build(model, **settled)) == ()
    if option in ("shortcut", "small_images"):
        (sentence,) = unsettled(build(model))
        assert f"model.{option}=" in sentence
        assert build(model).state_dict().keys() == build(model, **settled).state_dict().keys()


@pytest.mark.parametrize(
    ("shortcut", "doubted"), [(None, True), ("raw", False), ("activated", False)]
)
def test_foreign_weights_that_leave_a_choice_open_are_doubted(
    tmp_path: Path, shortcut: str | None, doubted: bool
) -> None:
    save_file(build("preact_resnet18", size=8, width=2).state_dict(), tmp_path / "wong.safetensors")
    node = {
        "_target_": "advprune.models.preact_resnet.PreActResNet",
        "num_classes": 10,
        "in_channels": 3,
        "image_size": 8,
        "mean": [0.4] * 3,
        "std": [0.25] * 3,
        "width": 2,
        "shortcut": shortcut,
    }
    weights = Weights(path=str(tmp_path / "wong.safetensors"), sha256="0", structure_sha256=None)
    stage = Stage("dense", Dense(model=Network(node), weights=weights))
    result = dense.make(stage, tmp_path, None, None)
    found = doubts_of_stages([stage, stage], {stage.key: result})
    assert ["model.shortcut=raw" in d for d in found] == [True] * doubted
