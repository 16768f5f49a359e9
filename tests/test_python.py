"""``import advprune``: pruning and evaluating a network in memory, by what the commands run."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from networks import OwnNet, TwoOutputs
from torch import Tensor, nn

import advprune
from advprune.api.network import device_of, refuse_spent
from advprune.datasets.batch_checks import collect, images_and_labels
from advprune.datasets.given import GivenLoader

BALL = advprune.Linf(8 / 255)
PAGE = ROOT / "docs" / "python.md"
SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)
#: Seconds, where a page trains for hours.
FEW = ["objective.attack.steps=1"]


def batches() -> list[tuple[Tensor, Tensor]]:
    """Three batches of images that are as bright as their class."""
    y = torch.arange(48) % 3
    x = (0.3 * y[:, None, None, None] + 0.3 * torch.rand(48, 1, 8, 8)).clamp(0, 1)
    return list(zip(x.split(16), y.split(16), strict=True))


def test_import_loads_no_torch_and_every_name_is_there() -> None:
    code = (
        "import sys, advprune; assert 'torch' not in sys.modules;"
        "assert all(getattr(advprune, name) is not None for name in dir(advprune))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'prnue'"):
        advprune.prnue  # noqa: B018


@pytest.mark.slow
def test_pruning_keeps_the_exact_share_and_leaves_the_program_as_it_was() -> None:
    net, loader = OwnNet(3), batches()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    result = advprune.prune(
        net, loader, method="magnitude", ratio=0.5, threat=BALL, epochs=(1, 1), options=FEW
    )
    kept = {name: int(mask.sum()) for name, mask in result.masks.items()}
    assert kept == {"0.weight": 18, "4.weight": 24}  # of 36 and 48
    assert result.sparsity == 0.5
    zeros = {name: int((result.model.get_parameter(name) != 0).sum()) for name in kept}
    assert zeros == kept
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert (net.training, threads) == (True, torch.get_num_threads())


def linear() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear network of two classes, and images whose distance from its boundary is known.

    The margin of an image of brightness b is 64 (2 b - 1): linf needs |b - 1/2| to cross it.
    """
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([-torch.ones(64), torch.ones(64)]))
        net[1].bias.copy_(torch.tensor([32.0, -32.0]))
    brightness = torch.tensor([0.2, 0.42, 0.46, 0.49, 0.51, 0.54, 0.58, 0.8])
    x = brightness.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    return net, x, (brightness > 0.5).long()


def test_the_robust_accuracy_of_a_linear_network_is_the_closed_form() -> None:
    net, x, y = linear()
    verdict = advprune.evaluate(net, x, y, attack="pgd", threat=advprune.Linf(0.05))
    assert (verdict.clean_acc, verdict.robust_acc, verdict.images) == (1.0, 0.5, 8)
    assert len(verdict.records) == 8
    assert verdict.robust_interval is not None
    assert verdict.robust_interval[0] < 0.5 < verdict.robust_interval[1]


def test_batches_and_tensors_are_judged_alike_also_inside_a_program_of_hydras() -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    net, x, y = linear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        verdict = advprune.evaluate(
            net, zip(x.split(3), y.split(3), strict=True), attack="fgsm", threat=advprune.L2(0.65)
        )
        assert GlobalHydra.instance().hydra is outer
    # FGSM moves each of 64 pixels by 0.65 / 8: 0.2, 0.8 and none nearer stay right
    assert verdict.robust_acc == 0.25


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"method": "hydar"}, "did you mean pruner=hydra"),
        ({"ratio": 99}, r"ratio=99 is not possible"),
        ({"objective": "trade"}, "did you mean objective=trades"),
        ({"options": ["pruner.scop=global"]}, r"did you mean pruner\.scope"),
        ({"options": ["pruner.recovery=scratch"]}, r"pruner\.recovery=finetune"),
        ({"method": "filters", "ratio": 0.9999}, "filters"),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(advprune.UserError, match=sentence):
        advprune.prune(OwnNet(3), batches(), **{"epochs": (1, 1), "threat": BALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"net": "resnet18"}, "the network is a str: give a torch.nn.Module"),
        ({"threat": 8 / 255}, r"threat=0\.031.*: give advprune\.Linf\(8 / 255\)"),
        ({"threat": "Linf"}, "threat=Linf: give advprune"),
        ({"epochs": 5}, "epochs=5: give two numbers"),
    ],
)
def test_an_argument_of_another_kind_is_one_sentence(
    arguments: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"net": OwnNet(3), "threat": BALL, **arguments}
    with pytest.raises(advprune.UserError, match=sentence):
        advprune.prune(batches=batches(), **given)


def test_an_array_of_numpys_is_no_batch_of_tensors() -> None:
    with pytest.raises(advprune.UserError, match="a numpy array: each must be a pair"):
        advprune.evaluate(OwnNet(3), X.numpy(), Y.numpy(), threat=BALL)  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.slow
def test_a_librarys_network_loses_weights_and_tells_why_no_filters(library: str) -> None:
    module = pytest.importorskip(library, reason="timm is an extra")
    x, y = torch.rand(16, 3, 32, 32), torch.arange(16) % 10
    if library == "timm":
        net = module.create_model("resnet10t", num_classes=10)
    else:
        net = module.models.resnet18(num_classes=10)
    loader, few = [(x, y)], [*FEW, "pruner.process.init=magnitude"]
    result = advprune.prune(net, loader, ratio=0.9, threat=BALL, epochs=(1, 1), options=few)
    assert result.sparsity == pytest.approx(0.9, abs=1e-5)
    with pytest.raises(advprune.UserError, match=r"tied to those of .* take a pruner of single"):
        advprune.prune(net, loader, method="filters", ratio=0.5, threat=BALL, epochs=(1, 1))


X, Y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (X, "images alone: each must be a pair"),
        ({"x": X, "y": Y}, "a dict: each must be a pair"),
        ((X,), "a tuple of 1: each must be a pair"),
        ((X, None), "there are no labels"),
        ((X * 255, Y), "divide them by 255"),
        (((X * 255).to(torch.uint8), Y), r"such as images / 255"),
        ((X - 0.5, Y), r"pixels must be in \[0, 1\]; put the normalisation into the network"),
        ((X * torch.nan, Y), "pixels go from nan"),
        ((X[..., :4], Y), "must be square"),
        ((X[0], Y), "must be one tensor"),
        ((X, Y[:3]), "one whole number an image"),
        ((X, nn.functional.one_hot(Y).float()), "one whole number an image"),
        ((X, Y + 1), "labels go from 1 to 3: the network has 3 classes"),
    ],
)
def test_a_wrong_batch_is_one_sentence(batch: object, sentence: str) -> None:
    with pytest.raises(advprune.UserError, match=sentence):
        images_and_labels(batch, classes=3)


class Softmax(OwnNet):
    def forward(self, x: Any) -> Any:
        return super().forward(x).softmax(1)


@pytest.mark.parametrize(
    ("net", "sentence"),
    [
        (TwoOutputs(3), "returns a tuple"),
        (Softmax(3), "returns probabilities"),
        (OwnNet(3, in_channels=3), "cannot take images"),
    ],
)
def test_a_wrong_network_is_one_sentence(net: nn.Module, sentence: str) -> None:
    with pytest.raises(advprune.UserError, match=sentence):
        advprune.evaluate(net, X, Y, threat=BALL)


def test_a_network_elsewhere_is_one_sentence() -> None:
    with pytest.raises(advprune.UserError, match="on meta: bring it to the CPU"):
        device_of(OwnNet(3).to("meta"))
    halves = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, device="meta"))
    with pytest.raises(advprune.UserError, match="on cpu, meta: bring it to one device"):
        device_of(halves)


def test_what_can_be_gone_through_once_is_refused() -> None:
    def once() -> Iterator[object]:
        yield X, Y

    with pytest.raises(advprune.UserError, match="a generator can be gone through only once"):
        refuse_spent(once())
    with pytest.raises(advprune.UserError, match="there is no batch"):
        collect([])


def test_a_loader_repeats_batches_and_begins_where_it_stopped() -> None:
    loader = GivenLoader([(X[:2], Y[:2]), (X[2:], Y[2:])], classes=3, device="cpu", repeats=2)
    assert len(loader) == 4
    assert [y.tolist() for _, y in loader] == [[0, 1], [0, 1], [2, 0], [2, 0]]
    loader.load_state_dict({"given": 3})
    assert [y.tolist() for _, y in loader] == [[2, 0]]


def test_the_page_has_snippets_and_they_compile() -> None:
    found = SNIPPET.findall(PAGE.read_text())
    assert found
    for code in found:
        compile(code, str(PAGE), "exec")


@pytest.mark.slow
def test_the_pages_snippets_run(tmp_path: Path) -> None:
    """As they stand, one after the other, in a folder of their own."""
    code = "\n".join(SNIPPET.findall(PAGE.read_text()))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=600)
