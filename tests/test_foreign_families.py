"""Published families: a file in the authors' layout, written anew from its description, gives the logits it describes.

Each family is a list of names and shapes here, and a function from such tensors to logits, with
torch's functions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import network
from torch import Tensor
from torch.nn import functional as F

from advprune.models import foreign

Weights = dict[str, Tensor]
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]


class Draw:
    """Random tensors by name, as the layers of a network would hold them."""

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.draw = torch.Generator().manual_seed(0)

    def conv(self, name: str, inputs: int, outputs: int, side: int = 3) -> None:
        scale = (2 / (inputs * side * side)) ** 0.5
        self.weights[f"{name}.weight"] = (
            torch.randn(outputs, inputs, side, side, generator=self.draw) * scale
        )

    def norm(self, name: str, channels: int) -> None:
        for leaf, low in (
            ("weight", 0.5),
            ("bias", -0.5),
            ("running_mean", -0.5),
            ("running_var", 0.5),
        ):
            self.weights[f"{name}.{leaf}"] = torch.rand(channels, generator=self.draw) + low
        self.weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self.weights[f"{name}.weight"] = (
            torch.randn(outputs, inputs, generator=self.draw) / inputs**0.5
        )
        self.weights[f"{name}.bias"] = torch.randn(outputs, generator=self.draw)


def bn(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.batch_norm(
        x, *(w[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    )


def standardised(x: Tensor) -> Tensor:
    return (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1)


def same3(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A 3x3 convolution with TensorFlow's SAME padding: what is odd of it goes to the right and below."""
    need = (-(-x.shape[-1] // stride) - 1) * stride + 3 - x.shape[-1]
    return F.conv2d(F.pad(x, (need // 2, need - need // 2) * 2), weight, stride=stride)


def dm_wide(depth: int, widen: int) -> Weights:
    """``DMWideResNet``: init_conv, layer.G.block.B (batchnorm_0, conv_0, …, shortcut), batchnorm, logits."""
    made, widths = Draw(), [16, 16 * widen, 32 * widen, 64 * widen]
    made.conv("init_conv", 3, 16)
    for group in range(3):
        for block in range((depth - 4) // 6):
            name, outputs = f"layer.{group}.block.{block}", widths[group + 1]
            inputs = outputs if block else widths[group]
            made.norm(f"{name}.batchnorm_0", inputs)
            made.conv(f"{name}.conv_0", inputs, outputs)
            made.norm(f"{name}.batchnorm_1", outputs)
            made.conv(f"{name}.conv_1", outputs, outputs)
            if inputs != outputs:
                made.conv(f"{name}.shortcut", inputs, outputs, 1)
    made.norm("batchnorm", widths[3])
    made.linear("logits", widths[3], 10)
    return made.weights


def dm_wide_logits(w: Weights, x: Tensor, padding: int, act: Callable[[Tensor], Tensor]) -> Tensor:
    out = same3(standardised(F.pad(x, (padding,) * 4)), w["init_conv.weight"], 1)
    for group in range(3):
        block = 0
        while (name := f"layer.{group}.block.{block}") + ".conv_0.weight" in w:
            stride = 2 if group and not block else 1
            active = act(bn(w, f"{name}.batchnorm_0", out))
            inner = same3(active, w[f"{name}.conv_0.weight"], stride)
            inner = same3(act(bn(w, f"{name}.batchnorm_1", inner)), w[f"{name}.conv_1.weight"], 1)
            skip = f"{name}.shortcut.weight"
            out = inner + (F.conv2d(active, w[skip], stride=stride) if skip in w else out)
            block += 1
    out = F.avg_pool2d(act(bn(w, "batchnorm", out)), 8)
    return F.linear(out.reshape(len(x), -1), w["logits.weight"], w["logits.bias"])


def dm_preact(width: int) -> Weights:
    """``DMPreActResNet``: conv_2d, layer_L.B (batchnorm_0, conv_2d_1, …, shortcut), batchnorm, logits."""
    made, widths = Draw(), [width, width, 2 * width, 4 * width, 8 * width]
    made.conv("conv_2d", 3, width)
    for layer in range(4):
        for block in range(2):
            name, outputs = f"layer_{layer}.{block}", widths[layer + 1]
            inputs = outputs if block else widths[layer]
            made.norm(f"{name}.batchnorm_0", inputs)
            made.conv(f"{name}.conv_2d_1", inputs, outputs)
            made.norm(f"{name}.batchnorm_1", outputs)
            made.conv(f"{name}.conv_2d_2", outputs, outputs)
            if layer and not block:
                made.conv(f"{name}.shortcut", inputs, outputs)
    made.norm("batchnorm", widths[4])
    made.linear("logits", widths[4], 10)
    return made.weights


def dm_preact_logits(
    w: Weights, x: Tensor, padding: int, act: Callable[[Tensor], Tensor]
) -> Tensor:
    out = same3(standardised(F.pad(x, (padding,) * 4)), w["conv_2d.weight"], 1)
    for layer in range(4):
        for block in range(2):
            name, stride = f"layer_{layer}.{block}", 2 if layer and not block else 1
            inner = same3(
                act(bn(w, f"{name}.batchnorm_0", out)), w[f"{name}.conv_2d_1.weight"], stride
            )
            inner = same3(
                act(bn(w, f"{name}.batchnorm_1", inner)), w[f"{name}.conv_2d_2.weight"], 1
            )
            skip = f"{name}.shortcut.weight"
            out = inner + (same3(out, w[skip], stride) if skip in w else out)
    out = F.avg_pool2d(act(bn(w, "batchnorm", out)), 4)
    return F.linear(out.reshape(len(x), -1), w["logits.weight"], w["logits.bias"])


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("act", [F.silu, F.relu])
@pytest.mark.parametrize("family", ["dm_wide", "dm_preact"])
def test_robustbenchs_networks_of_gowal_rebuffi_and_wang(
    tmp_path: Path, family: str, act: Callable[[Tensor], Tensor], padding: int
) -> None:
    # the authors average a window of 8 (of 4 in the ResNet); with padding the map is larger, and
    # they drop the rest
    options: dict[str, Any] = {
        "activation": "swish" if act is F.silu else "relu",
        "padding": padding,
    }
    if family == "dm_wide":
        weights, logits, name = dm_wide(16, 1), dm_wide_logits, "dm_wrn_28_10"
        options |= {"depth": 16, "widen": 1}
    else:
        weights, logits, name = dm_preact(8), dm_preact_logits, "dm_preact_resnet18"
        options |= {"width": 8}
    constants = {"mean": torch.tensor(MEAN).view(3, 1, 1), "std": torch.tensor(STD).view(3, 1, 1)}
    check(
        tmp_path, {**constants, **weights}, name, options, lambda w, x: logits(w, x, padding, act)
    )


def check(
    folder: Path,
    weights: Weights,
    name: str,
    options: dict[str, Any],
    logits: Callable[[Weights, Tensor], Tensor],
) -> None:
    """Load the file into the network of a YAML and compare, in float64, on CIFAR-sized images."""
    torch.save(
        {"model_state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}},
        folder / "w.pt",
    )
    net = network(name, mean=MEAN, std=STD, **options)
    assert foreign.load(net, folder / "w.pt").doubts == []
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    double = {key: tensor.double() for key, tensor in weights.items()}
    with torch.no_grad():
        expected = logits(double, x)
        # float32 constants made double are what the network standardises with
        torch.testing.assert_close(net.double().eval()(x), expected, rtol=1e-6, atol=1e-6)
    assert expected.std() > 0.1


def bottlenecks(width: int, counts: list[int], skip: str, stem: int, head: str) -> Weights:
    """A ResNet of bottlenecks: 1x1, 3x3 and 1x1 to four times as many channels."""
    made, inputs = Draw(), width
    made.conv("conv1", 3, width, stem)
    made.norm("bn1", width)
    for layer, count in enumerate(counts):
        planes = width * 2**layer
        for block in range(count):
            name = f"layer{layer + 1}.{block}"
            for number, (a, b, side) in enumerate(
                [(inputs, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1)]
            ):
                made.conv(f"{name}.conv{number + 1}", a, b, side)
                made.norm(f"{name}.bn{number + 1}", b)
            if not block:
                made.conv(f"{name}.{skip}.0", inputs, 4 * planes, 1)
                made.norm(f"{name}.{skip}.1", 4 * planes)
            inputs = 4 * planes
    made.linear(head, inputs, 10)
    return made.weights


def basics(width: int, skip: str, stem: int, head: str) -> Weights:
    """A ResNet-18 of two 3x3 convolutions a block."""
    made, inputs = Draw(), width
    made.conv("conv1", 3, width, stem)
    made.norm("bn1", width)
    for layer in range(4):
        outputs = width * 2**layer
        for block in range(2):
            name = f"layer{layer + 1}.{block}"
            for number, a in enumerate([inputs, outputs]):
                made.conv(f"{name}.conv{number + 1}", a, outputs)
                made.norm(f"{name}.bn{number + 1}", outputs)
            if layer and not block:
                made.conv(f"{name}.{skip}.0", inputs, outputs, 1)
                made.norm(f"{name}.{skip}.1", outputs)
            inputs = outputs
    made.linear(head, inputs, 10)
    return made.weights


def resnet_logits(w: Weights, x: Tensor, skip: str, head: str, *, imagenet: bool) -> Tensor:
    stem = w["conv1.weight"]
    out = F.conv2d(standardised(x), stem, stride=2 if imagenet else 1, padding=stem.shape[-1] // 2)
    out = bn(w, "bn1", out).relu()
    out = F.max_pool2d(out, 3, 2, 1) if imagenet else out
    for layer in range(1, 5):
        block = 0
        while (name := f"layer{layer}.{block}") + ".conv1.weight" in w:
            stride, inner = 2 if layer > 1 and not block else 1, out
            last = 3 if f"{name}.conv3.weight" in w else 2
            for number in range(1, last + 1):
                weight = w[f"{name}.conv{number}.weight"]
                step = (
                    stride if number == last - 1 else 1
                )  # a bottleneck strides in its 3x3, as a basic block in its first
                inner = bn(
                    w,
                    f"{name}.bn{number}",
                    F.conv2d(inner, weight, stride=step, padding=weight.shape[-1] // 2),
                )
                inner = inner.relu() if number < last else inner
            if f"{name}.{skip}.0.weight" in w:
                out = bn(
                    w,
                    f"{name}.{skip}.1",
                    F.conv2d(out, w[f"{name}.{skip}.0.weight"], stride=stride),
                )
            out = (out + inner).relu()
            block += 1
    return F.linear(out.mean((2, 3)), w[f"{head}.weight"], w[f"{head}.bias"])


def test_the_resnet50_of_cifar_is_kuanglius(tmp_path: Path) -> None:
    weights = bottlenecks(4, [3, 4, 6, 3], "shortcut", 3, "linear")
    check(
        tmp_path,
        weights,
        "resnet50_cifar",
        {"width": 4},
        lambda w, x: resnet_logits(w, x, "shortcut", "linear", imagenet=False),
    )


def test_the_resnet18_of_imagenet_is_torchvisions(tmp_path: Path) -> None:
    weights = basics(64, "downsample", 7, "fc")
    check(
        tmp_path,
        weights,
        "resnet18_imagenet",
        {},
        lambda w, x: resnet_logits(w, x, "downsample", "fc", imagenet=True),
    )
