"""Published layouts of pruned networks: each loads by name, with its network's logits and its exact zeros."""

import copy
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from networks import network
from torch import Tensor, nn

from advprune.config.stage_options import Weights
from advprune.errors import UserError
from advprune.masks import prunable
from advprune.models import foreign
from advprune.models.checkpoints.candidates import Declared
from advprune.models.checkpoints.layouts.known_layouts import LAYOUTS
from advprune.report.data.file_audit import audit
from advprune.report.table.terminal import show

State = dict[str, Tensor]
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
KEEP = 0.3  # of HYDRA's, HARP's and RST's option
RATIO = 0.7


def made(seed: int = 0, model: str = "resnet20", **options: Any) -> nn.Module:
    """A small network whose BatchNorms do something."""
    options = (
        {"depth": 8, "width": 4, "shortcut": "B", **options} if model == "resnet20" else options
    )
    net = network(model, **options)
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.normal_(0, 0.3, generator=draw)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=draw)
            module.weight.data.uniform_(0.5, 1.5, generator=draw)
            module.bias.data.normal_(0, 0.1, generator=draw)
    return net.eval()


class Folded(nn.Module):
    """What the modules of all these methods do: compute with a weight made from what they keep."""

    def weight_used(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_used()
        if weight.ndim == 2:
            return F.linear(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def kept_by_sorting(scores: Tensor, keep: float | Tensor) -> Tensor:
    """HYDRA's choice: sort, and drop as many as the truncated product says."""
    mask = torch.ones_like(scores)
    dropped = int((1 - keep) * scores.numel())
    mask.view(-1)[scores.view(-1).sort().indices[:dropped]] = 0
    return mask


class Popup(Folded):
    def weight_used(self) -> Tensor:
        return self.weight * kept_by_sorting(self.popup_scores.abs(), KEEP)


class Rated(Folded):
    def weight_used(self) -> Tensor:
        floor = 0.1 * KEEP
        keep = torch.sigmoid(self.k_score) * (1 - floor) + floor
        scores = self.popup_scores.abs()
        if scores.shape == self.weight.shape:
            return self.weight * kept_by_sorting(scores, keep)
        mask = torch.zeros_like(scores)
        best = torch.topk(scores, int(torch.round(keep * scores.shape[1])), dim=1).indices
        return self.weight * mask.scatter(1, best, 1.0)


class Ticket(Folded):
    """Scores of weights, or of filters, kernels or rows: fewer dimensions than the weight."""

    def weight_used(self) -> Tensor:
        mask = kept_by_sorting(self.scores.abs(), KEEP)
        return self.weight * mask.reshape(*mask.shape, *[1] * (self.weight.ndim - mask.ndim))


class Twin(Folded):
    def weight_used(self) -> Tensor:
        return self.weight * self.aux_weight * self.mask


class Mixed(Folded):
    def weight_used(self) -> Tensor:
        return torch.einsum("pq,q...->p...", self.aux_weight, self.weight) * self.mask


class Softly(Folded):
    def weight_used(self) -> Tensor:
        return self.weight * F.softplus(self.mask_weight)


def converted(
    kind: type[Folded],
    draw: Callable[[Tensor, torch.Generator], State],
    net: nn.Module | None = None,
) -> nn.Module:
    """A network with all layers of a kind; ``draw`` says what each keeps beside its weight."""
    net, generator = net or made(), torch.Generator().manual_seed(3)
    for layer in list(net.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            for name, value in draw(layer.weight.data, generator).items():
                layer.register_buffer(name, value)
            layer.__class__ = type(kind.__name__, (kind, type(layer)), {})
    return net


def normal(shape: Any, generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator)


def half_mask(weight: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.rand(weight.shape, generator=generator) > 0.5).float()


def popup() -> nn.Module:
    return converted(Popup, lambda w, g: {"popup_scores": normal(w.shape, g)})


def rated(channels: bool = False) -> nn.Module:
    def draw(weight: Tensor, generator: torch.Generator) -> State:
        shape = (1, weight.shape[1], *[1] * (weight.ndim - 2)) if channels else weight.shape
        return {"popup_scores": normal(shape, generator), "k_score": normal((), generator)}

    return converted(Rated, draw)


def ticket(dimensions: int) -> nn.Module:
    return converted(Ticket, lambda w, g: {"scores": normal(w.shape[: min(dimensions, w.ndim)], g)})


def twin() -> nn.Module:
    return converted(Twin, lambda w, g: {"aux_weight": normal(w.shape, g), "mask": half_mask(w, g)})


def mixed() -> nn.Module:
    return converted(
        Mixed, lambda w, g: {"aux_weight": normal((len(w), len(w)), g), "mask": half_mask(w, g)}
    )


def softly(plain: nn.Module | None = None) -> nn.Module:
    one = math.log(math.expm1(1))
    net = converted(Softly, lambda w, g: {"mask_weight": torch.full_like(w, one)}, plain)
    for layer in net.modules():
        if isinstance(layer, Softly):
            layer.weight.data *= half_mask(layer.weight, torch.Generator().manual_seed(4))
            if layer.bias is not None:
                layer.register_buffer("mask_bias", torch.full_like(layer.bias, one))
    return net


def with_zeros() -> nn.Module:
    net, generator = made(), torch.Generator().manual_seed(4)
    for weight in prunable(net).values():
        weight.data *= half_mask(weight, generator)
    return net


def used_zeros(net: nn.Module) -> dict[str, int]:
    """Zeros by layer, of the weights that a network of ``Folded`` layers computes with."""
    return {
        name: int((layer.weight_used() == 0).sum())
        for name, layer in net.named_modules()
        if isinstance(layer, Folded)
    }


def zeros(net: nn.Module) -> dict[str, int]:
    return {n.removesuffix(".weight"): int((w == 0).sum()) for n, w in prunable(net).items()}


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


#: layout, the network of its modules, and how its code wraps the state dict.
FILES: dict[str, tuple[str, Callable[[], nn.Module], Callable[[State], Any]]] = {
    "hydra": (
        "hydra",
        popup,
        lambda s: {"epoch": 3, "arch": "r", "state_dict": s, "best_prec1": 1.0},
    ),
    "hydra on several gpus": ("hydra", popup, lambda s: {"state_dict": under("module.", s)}),
    "harp": ("harp", rated, lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}}),
    "harp's channels": ("harp", lambda: rated(channels=True), lambda s: {"state_dict": s}),
    "rst's weights": ("rst", lambda: ticket(4), lambda s: {"state_dict": under("module.", s)}),
    "rst's rows": ("rst", lambda: ticket(3), lambda s: {"state_dict": s}),
    "rst's kernels": ("rst", lambda: ticket(2), lambda s: {"state_dict": s}),
    "rst's filters": ("rst", lambda: ticket(1), lambda s: {"state_dict": s}),
    "twin_rep's products": ("twin_rep", twin, dict),
    "twin_rep's mixes": ("twin_rep", mixed, dict),
    "mad": ("mad", softly, lambda s: {"net": s, "acc": 70.0, "epoch": 1}),
}


def loaded(
    path: Path, payload: object, layout: str | None, ratio: float | None = None, **options: Any
) -> nn.Module:
    torch.save(payload, path / "file.pt")
    net = made(5, **options)
    foreign.load(net, path / "file.pt", Declared(layout, ratio))
    return net


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_a_methods_modules_has_their_logits_and_zeros(tmp_path: Path, case: str) -> None:
    layout, build, wrap = FILES[case]
    theirs = build()
    net = loaded(tmp_path, wrap(theirs.state_dict()), layout, RATIO)
    with torch.no_grad():
        torch.testing.assert_close(net(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-5)
    assert zeros(net) == used_zeros(theirs)
    assert sum(zeros(net).values()) > 0


def test_hydra_drops_the_truncated_share_of_each_layer(tmp_path: Path) -> None:
    net = loaded(tmp_path, popup().state_dict(), "hydra", 0.9)
    sizes = {n.removesuffix(".weight"): w.numel() for n, w in prunable(net).items()}
    assert zeros(net) == {name: int(0.9 * size) for name, size in sizes.items()}


def test_harp_keeps_what_each_layers_rate_says(tmp_path: Path) -> None:
    """With r = 0 a layer keeps (1 + 0.1 K) / 2, whatever the ratio is to be in all."""
    state = {
        n: torch.zeros(()) if n.endswith("k_score") else t for n, t in rated().state_dict().items()
    }
    net = loaded(tmp_path, state, "harp", 0.99)
    sizes = {n.removesuffix(".weight"): w.numel() for n, w in prunable(net).items()}
    assert zeros(net) == {name: int((1 - 0.5005) * size) for name, size in sizes.items()}


@pytest.mark.parametrize("layout", ["flying_bird", "robust_bird", "radmm", "pwoa", "li20"])
def test_where_zeros_are_in_the_weights_they_are_counted(tmp_path: Path, layout: str) -> None:
    theirs = with_zeros()
    state = under("module.basic_model.", theirs.state_dict())  # as R-ADMM saves its attacked model
    net = loaded(tmp_path, state, layout)
    assert torch.equal(net(IMAGES), theirs(IMAGES))
    assert zeros(net) == zeros(theirs)


def test_flying_birds_masks_lie_in_what_it_resumes_from(tmp_path: Path) -> None:
    """Named by weight and by number, two levels down; a weight that regrew is masked."""
    theirs, plain = with_zeros(), made()
    numbers = {name: number for number, (name, _) in enumerate(plain.named_parameters())}
    masks = {f"{n}_{numbers[n]}": (w != 0).float() for n, w in prunable(theirs).items()}
    payload = {
        "epoch": 3,
        "state_dict": plain.state_dict(),
        "scheduler": {"milestones": Counter([100, 150])},
        "mask_info": {
            "lossinfo": [0.1],
            "masks": masks,
            "name2death_rate": dict.fromkeys(masks, 0.5),
        },
        "result": {"val_ra": [0.4]},
    }
    net = loaded(tmp_path, payload, "flying_bird")
    assert torch.equal(net(IMAGES), theirs(IMAGES))
    assert zeros(net) == zeros(theirs)


def test_a_scratch_tickets_norms_and_classifier_are_completed(tmp_path: Path) -> None:
    """BatchNorm without gamma and beta; the classifier a 1x1 convolution without bias, called fc."""
    theirs, plain = ticket(4), made()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.zeros_(theirs.linear.bias)
    norms = {n for n, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)}
    state = {n.replace("linear.", "fc."): t for n, t in theirs.state_dict().items()}
    for name in norms:
        del state[f"{name}.weight"], state[f"{name}.bias"]
    del state["fc.bias"]
    state |= {n: state[n][..., None, None] for n in ("fc.weight", "fc.scores")}
    net = loaded(tmp_path, {"state_dict": under("module.", state)}, "rst", RATIO)
    with torch.no_grad():
        torch.testing.assert_close(net(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-5)
    assert zeros(net) == used_zeros(theirs)


def test_mads_vgg_averages_its_last_map_and_calls_its_features_otherwise(tmp_path: Path) -> None:
    options = {"width": 4, "bias": False, "last_pool": "average"}
    theirs = softly(made(model="vgg16_linear", **options))
    state = {n.replace("features.", "feature."): t for n, t in theirs.state_dict().items()}
    net = loaded(tmp_path, {"net": state}, "mad", model="vgg16_linear", **options)
    with torch.no_grad():
        maps = F.avg_pool2d(theirs.features(theirs.normalize(IMAGES)), 2).flatten(1)
        torch.testing.assert_close(net(IMAGES), theirs.classifier(maps), rtol=1e-4, atol=1e-5)
    assert zeros(net) == used_zeros(theirs)


def test_the_benchmarks_vgg_is_told_by_its_names(tmp_path: Path) -> None:
    """Five stages of convolution, norm and ReLU, each before a max-pool; then one linear layer."""
    theirs = made(model="vgg16_linear", width=4)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "file.pt")
    maps = IMAGES
    with torch.no_grad():
        maps = theirs.normalize(maps)
        for count, first in ((2, 0), (2, 7), (3, 14), (3, 24), (3, 34)):
            for number in range(first, first + 3 * count, 3):
                conv, norm = theirs.features[number], theirs.features[number + 1]
                maps = F.relu(norm(F.conv2d(maps, conv.weight, conv.bias, padding=1)))
            maps = F.max_pool2d(maps, 2)
        assert torch.equal(theirs(IMAGES), theirs.classifier(maps.flatten(1)))
    with pytest.raises(UserError, match=r"it fits model=vgg16_linear model\.width=4"):
        foreign.load(made(5), tmp_path / "file.pt", Declared("radmm"))
    (doubt,) = foreign.load(made(5, "vgg16_linear", width=4), tmp_path / "file.pt").doubts
    assert "model.last_pool=average (files of MAD)" in doubt


def test_a_fine_tuned_ticket_has_its_mask_in_place_of_scores(tmp_path: Path) -> None:
    theirs = ticket(4)
    state = {
        n: kept_by_sorting(t.abs(), KEEP) if n.endswith("scores") else t
        for n, t in theirs.state_dict().items()
    }
    assert zeros(loaded(tmp_path, state, "rst")) == used_zeros(theirs)


def tensorflow(net: nn.Module) -> tuple[list[Tensor], State]:
    """The list of arrays that BCS saves, and the weights it stands for."""
    generator, arrays, weights = torch.Generator().manual_seed(6), list[Tensor](), State()
    channels = 0
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.ndim < 2:
            arrays.append(tensor)
            continue
        theta, sign = normal(tensor.shape, generator), normal(tensor.shape, generator).sign()
        weights[name] = torch.where(theta > 0, theta * sign, 0.0) * 0.2
        for part in (theta * 0.2, sign):
            if part.ndim == 4:
                arrays.append(part.permute(2, 3, 1, 0))
                continue
            outputs, inputs = part.shape
            places = inputs // channels  # (O, C, places) is flattened as (places, C) there
            arrays.append(
                part.reshape(outputs, channels, places).permute(2, 1, 0).reshape(inputs, outputs)
            )
        channels = len(tensor)
    return arrays, weights


@pytest.mark.parametrize("model", ["resnet20", "vgg16_bn"])
def test_bcs_lists_theta_and_sign_in_tensorflows_shapes(tmp_path: Path, model: str) -> None:
    options = {"hidden": 16} if model == "vgg16_bn" else {}
    theirs = made(model=model, **options)
    arrays, weights = tensorflow(theirs)
    net = loaded(tmp_path, {"param_list": arrays}, "bcs", model=model, **options)
    named = prunable(net)
    assert named.keys() == weights.keys()
    assert all(torch.equal(named[name], weight) for name, weight in weights.items())


def test_bcs_on_strided_convolutions_is_doubted(tmp_path: Path) -> None:
    torch.save({"param_list": tensorflow(made())[0]}, tmp_path / "file.pt")
    (doubt,) = foreign.load(made(5), tmp_path / "file.pt", Declared("bcs")).doubts
    assert "the right and below alone" in doubt


def test_a_dense_parent_in_masking_layers_is_read_without_them(tmp_path: Path) -> None:
    """HARP's issue 1: read as a pruned network it would silently be another one."""
    theirs = made()
    scores = {
        f"{n.removesuffix('weight')}popup_scores": torch.randn(w.shape)
        for n, w in prunable(theirs).items()
    }
    rates = {n.replace("popup_scores", "k_score"): torch.ones(()) for n in scores}
    payload = {"state_dict": {**theirs.state_dict(), **scores, **rates}}
    net = loaded(tmp_path, payload, "pretrained")
    assert torch.equal(net(IMAGES), theirs(IMAGES))
    with pytest.raises(UserError, match=r"all 1, as HARP's pre-training.*give layout=pretrained"):
        loaded(tmp_path, payload, "harp", RATIO)


def without(build: Callable[[], nn.Module], part: str) -> State:
    return {n: t for n, t in build().state_dict().items() if n != part}


def changed(build: Callable[[], nn.Module], name: str, value: Tensor) -> State:
    return {**build().state_dict(), name: value}


FILTERS = torch.zeros(4, 3, 3, 3)
#: payload, layout, ratio, what the one sentence says.
REFUSED: dict[str, tuple[Callable[[], Any], str | None, float | None, str]] = {
    "an unknown layout": (popup, "harpp", None, "layout=harpp is not one of hydra, harp, rst, "),
    "another layout": (
        popup,
        "twin_rep",
        None,
        r"no aux_weight beside.*\(Li et al. 2023\): layout=hydra or pretrained fits it",
    ),
    "rates under hydra": (
        rated,
        "hydra",
        RATIO,
        "so it is not in layout=hydra.*layout=harp or pretrained fits it",
    ),
    "scores as plain weights": (
        popup,
        "radmm",
        None,
        r"popup_scores beside its weights \(conv1.popup_scores, .*and 8 more\)",
    ),
    "plain weights as scores": (
        made,
        "rst",
        RATIO,
        "layout=flying_bird or robust_bird or radmm or pwoa or li20 fits it",
    ),
    "a list": (lambda: {"a": tensorflow(made())[0]}, "mad", None, "layout=bcs fits it"),
    "no word": (
        twin,
        None,
        None,
        "keeps aux_weight beside its weights.*say how it was saved; layout=twin_rep fits it",
    ),
    "no ratio": (
        popup,
        "hydra",
        None,
        "keeps beside conv1.weight scores, and not how many.*give ratio=",
    ),
    "no mask": (lambda: without(twin, "conv1.mask"), "twin_rep", None, "has no conv1.mask beside"),
    "no masks": (
        lambda: {n: t for n, t in twin().state_dict().items() if not n.endswith("mask")},
        "twin_rep",
        None,
        "has no conv1.mask beside",
    ),
    "no weight": (
        lambda: without(popup, "conv1.weight"),
        "hydra",
        RATIO,
        "has no conv1.weight beside",
    ),
    "no scores of a layer": (
        lambda: without(popup, "conv1.popup_scores"),
        "hydra",
        RATIO,
        "has no conv1.popup_scores beside",
    ),
    "a mask of another shape": (
        lambda: changed(twin, "conv1.mask", torch.ones(4, 3, 1, 1)),
        "twin_rep",
        None,
        r"a mask of shape \(4, 3, 1, 1\), and the weight's is \(4, 3, 3, 3\)",
    ),
    "scores of another shape": (
        lambda: changed(popup, "conv1.popup_scores", torch.ones(3, 4, 3, 3)),
        "hydra",
        RATIO,
        r"popup_scores of shape \(3, 4, 3, 3\)",
    ),
    "channels of another layer": (
        lambda: changed(lambda: rated(channels=True), "conv1.popup_scores", torch.ones(1, 4, 1, 1)),
        "harp",
        RATIO,
        "popup_scores for 4 input channels, and the weight has 3",
    ),
    "a mix of another layer": (
        lambda: changed(mixed, "conv1.aux_weight", torch.eye(3)),
        "twin_rep",
        None,
        r"a mix of filters \(aux_weight\) of shape \(3, 3\), and there are 4",
    ),
    "a mask of halves": (
        lambda: changed(twin, "conv1.mask", FILTERS + 0.5),
        "twin_rep",
        None,
        "other numbers than 0 and 1",
    ),
    "scores that are no numbers": (
        lambda: changed(popup, "conv1.popup_scores", FILTERS * math.nan),
        "hydra",
        RATIO,
        "scores that are not finite",
    ),
    "more keys": (
        lambda: changed(popup, "head.gate", torch.ones(2)),
        "hydra",
        RATIO,
        r"unexpected: head.gate",
    ),
    "a longer list": (
        lambda: {"p": [*tensorflow(made())[0], torch.ones(2)]},
        "bcs",
        None,
        "1 arrays more",
    ),
    "a shorter list": (
        lambda: {"p": tensorflow(made())[0][:-1]},
        "bcs",
        None,
        "no array for linear.bias",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_in_the_layout_is_refused_with_what_is(tmp_path: Path, case: str) -> None:
    build, layout, ratio, message = REFUSED[case]
    payload = build()
    torch.save(
        payload.state_dict() if isinstance(payload, nn.Module) else payload, tmp_path / "file.pt"
    )
    net = made(5)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UserError, match=message) as error:
        foreign.load(net, tmp_path / "file.pt", Declared(layout, ratio))
    assert str(error.value).count("\n") == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_every_layout_is_tried_here() -> None:
    plain = {"flying_bird", "robust_bird", "radmm", "pwoa", "li20", "bcs", "pretrained"}
    assert {layout for layout, _, _ in FILES.values()} | plain == set(LAYOUTS)


def counted(ratio: float | None, layout: str | None = None, share: float = 0.5) -> dict[str, Any]:
    """The audit of a network of 1,000 weights in two layers, of which a share is zero."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 5))
    for weight in prunable(net).values():
        nn.init.ones_(weight)
        weight.data.view(-1)[: round(share * weight.numel())] = 0
    return audit(net, (1, 4, 5), Weights("some/file.pt", "", None, layout, ratio))


def test_a_file_is_counted() -> None:
    result = counted(None, "harp")
    assert (result["sparsity"], result["zeros"], result["doubts"]) == (0.5, 0.5, [])
    assert result["file"] == {
        "layout": "harp",
        "owner": "Zhao and Wressnegger 2023",
        "parameters": 1045,
        "macs": 1000,
        "nonzero_macs": 500,
        "weights": 1000,
        "layers": {"1": 0.5, "3": 0.5},
        "filters": 45,
        "zero_filters": 22,  # 400 of 800 in rows of 20, 100 of 200 in rows of 40
    }


@pytest.mark.parametrize(
    ("ratio", "doubted"), [(0.5, False), (0.506, False), (0.51, True), (0.99, True)]
)
def test_a_count_that_is_not_what_was_said_is_doubted(ratio: float, doubted: bool) -> None:
    """1 % of what should be kept, and one weight a layer, are allowed."""
    doubts = counted(ratio)["doubts"]
    assert bool(doubts) == doubted
    assert not doubted or "500 of its 1000 weights are zero, which is 0.5000" in doubts[0]


def test_a_pruned_layout_without_zeros_is_doubted() -> None:
    (doubt,) = counted(None, "radmm", share=0)["doubts"]
    assert doubt.startswith("no weight of file.pt is zero")
    assert counted(None, "pretrained", share=0)["doubts"] == counted(None, share=0)["doubts"] == []


def test_a_file_is_attacked_by_its_layouts_name_and_told_of(
    tmp_path: Path, job: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = network(
        "small_cnn", widths=[4, 4, 4], in_channels=1, image_size=8, mean=[0.5], std=[0.5]
    )
    scores = {
        n.replace("weight", "popup_scores"): torch.rand(w.shape)
        for n, w in prunable(theirs).items()
    }
    torch.save({"state_dict": {**theirs.state_dict(), **scores}}, tmp_path / "file.pt")
    words = (
        *TINY,
        "attack=pgd",
        "attack.steps=2",
        "report=false",
        f"checkpoint={tmp_path}/file.pt",
    )
    done = job(*words, "layout=hydra", "ratio=0.5", command="attack")
    row, sizes = done["row"], [w.numel() for w in prunable(theirs).values()]
    assert row["zeros"] == sum(size // 2 for size in sizes) / sum(sizes)
    assert (row["file"]["layout"], row["ratio"]) == ("hydra", None)
    assert not any("was said of" in doubt for doubt in row["doubts"])
    show([done], tmp_path)
    told = " ".join(capsys.readouterr().out.split())
    assert "digits train_images=192, from file.pt as hydra 0.5; accuracy" in told
    assert "file.pt as hydra 0.5 (Sehwag et al. 2020): 986 parameters, 7,552 MACs (" in told
    assert "file.pt as hydra 0.5, % zeros a layer: conv1 50.0, conv2 50.0" in told
    assert "give ratio=" in job(*words, "layout=hydra", command="attack")["failed"]
    assert "give checkpoint=FILE or dense=FILE" in job(*TINY, "layout=hydra")["failed"]


def test_a_dense_parent_starts_a_job_by_its_layout(
    tmp_path: Path, job: Callable[..., dict[str, Any]]
) -> None:
    theirs = network(
        "small_cnn", widths=[4, 4, 4], in_channels=1, image_size=8, mean=[0.5], std=[0.5]
    )
    scores = {
        n.replace("weight", "popup_scores"): torch.rand(w.shape)
        for n, w in prunable(theirs).items()
    }
    torch.save({**theirs.state_dict(), **scores}, tmp_path / "file.pt")
    words = (*TINY, "pruner=magnitude", "ratio=0.5", "report=false", f"dense={tmp_path}/file.pt")
    assert "layout=hydra or pretrained fits it" in job(*words)["failed"]
    assert "give ratio=" in job(*words, "layout=hydra")["failed"]
    assert job(*words, "layout=pretrained")["row"]["zeros"] == 0.5


def test_one_file_read_in_two_ways_is_two_rows() -> None:
    labels = [
        Weights("a/file.pt", "", None, layout, ratio).label
        for layout, ratio in (
            (None, None),
            ("harp", None),
            ("harp", 0.9),
            ("harp", 0.99),
            (None, 0.9),
        )
    ]
    assert labels == [
        "file.pt",
        "file.pt as harp",
        "file.pt as harp 0.9",
        "file.pt as harp 0.99",
        "file.pt 0.9",
    ]
