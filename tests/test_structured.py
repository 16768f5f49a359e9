"""Structured pruning against https://arxiv.org/abs/2108.04890 and its family: the facts, the criteria, the choice."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from networks import lively, network
from sklearn.datasets import load_digits
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.pruners.criteria import (
    bn_scale,
    cka,
    expected_abs,
    fpgm,
    hrank,
    kl,
    l1,
    l2,
    pls,
    random,
    taylor,
)
from advprune.pruners.criteria.matrix_rank import ranks
from advprune.sites import BlockSite, FilterSite
from advprune.surgery.budget import Dense, dense
from advprune.surgery.cost import layers, total

SHAPE = (3, 32, 32)
CRITERIA = {
    "l1": l1.l1,
    "l2": l2.l2,
    "fpgm": fpgm.fpgm,
    "bn_scale": bn_scale.bn_scale,
    "random": lambda *a, **k: random.random(*a, seed=0, **k),
    "expected_abs": expected_abs.expected_abs,
    "hrank": hrank.hrank,
    "kl": lambda *a, **k: kl.kl(*a, images=64, **k),
    "cka": lambda *a, **k: cka.cka(*a, images=64, **k),
    "pls": pls.pls,
    "taylor": taylor.taylor,
}


def whole_of(net: nn.Module) -> Dense:
    return dense(net, filter_sites(net), block_sites(net), SHAPE)


@pytest.fixture(scope="module")
def resnet56() -> Dense:
    return whole_of(network("resnet56", shortcut="projection"))


@pytest.fixture(scope="module")
def resnet110() -> Dense:
    return whole_of(network("resnet110", shortcut="projection"))


def test_fact_1_what_the_network_costs(resnet56: Dense) -> None:
    net = network("resnet56", shortcut="projection")
    statistics = sum(
        b.numel() for n, b in net.named_buffers() if n.endswith(("running_mean", "running_var"))
    )
    parameters, macs = total(resnet56.costs)
    assert parameters + statistics == 861_770  # Keras counts the moving statistics
    assert macs == 125_747_840
    filters_in_all = sum(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    assert filters_in_all == 2_128
    thin = total(layers(network("resnet56"), SHAPE))
    assert thin == (853_018, 125_485_696)


def test_fact_2_each_block_costs_the_same(resnet56: Dense) -> None:
    candidates = [site.name for site in resnet56.blocks if site.removable]
    shares = {round(100 * resnet56.share("macs", {}, [name]), 4) for name in candidates}
    assert shares == {3.7524}
    scores = {site.name: torch.tensor(float(i)) for i, site in enumerate(resnet56.blocks)}
    line = blocks.order(scores, resnet56.blocks)
    assert len(line) == 21
    assert round(100 * resnet56.share("macs", {}, line[:20]), 2) == 75.05
    assert round(100 * resnet56.share("macs", {}, line), 2) == 78.80
    left = total(resnet56.left({}, line))
    assert left == (
        176_554 - 2 * 464,
        26_657_408,
    )  # Keras counts the moving statistics of 464 channels


def test_fact_3_candidates() -> None:
    def candidates(name: str) -> set[int]:
        return {index for index, site in enumerate(block_sites(network(name))) if site.removable}

    assert candidates("resnet56") == {*range(1, 9), *range(10, 18), *range(19, 27)}
    assert candidates("resnet20") == {1, 2, 4, 5, 7, 8}
    assert [len(candidates(name)) for name in ("resnet110", "resnet50", "mobilenet_v2")] == [
        51,
        12,
        5,
    ]
    sites = block_sites(network("resnet110"))
    assert len(blocks.order({site.name: torch.tensor(0.0) for site in sites}, sites)) == 48
    sites = block_sites(network("resnet50"))
    assert len(blocks.order({site.name: torch.tensor(0.0) for site in sites}, sites)) == 8


@pytest.mark.parametrize(("count", "left"), [(2, [2, 3, 2]), (3, [2, 2, 2])])
def test_fact_4_greedy_with_a_floor(count: int, left: list[int]) -> None:
    sites = block_sites(network("resnet20"))
    scores = dict(
        zip((s.name for s in sites if s.removable), (0.1, 0.2, 0.9, 0.8, 0.7, 0.6), strict=True)
    )
    tensors = {name: torch.tensor(score) for name, score in scores.items()}
    gone = blocks.choose(tensors, count / 9 - 1e-6, sites=sites, share=lambda names: len(names) / 9)
    stages = [sum(s.stage == f"layer{k}" and s.name not in gone for s in sites) for k in (1, 2, 3)]
    assert (len(gone), stages) == (count, left)


def test_fact_5_rounding() -> None:
    widths = (16, 24, 32, 64, 96, 144, 192, 384, 576, 960)
    assert [filters.counted(n, 0.1) for n in widths] == [2, 2, 3, 6, 10, 14, 19, 38, 58, 96]
    assert filters.counted(2, 0.99) == 1


def one_conv(weight: Tensor) -> tuple[nn.Sequential, list[FilterSite]]:
    net = nn.Sequential(
        nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False), nn.ReLU()
    )
    net[0].weight.data = weight
    return net, [FilterSite("0", "1", "1")]


def test_fact_8_vip() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 6))
    scores = pls.vip(x, np.eye(2)[(x[:, 0] > 0).astype(int)], 2)
    assert np.square(scores).sum() == pytest.approx(6, abs=1e-9)
    assert scores.mean() <= 1
    assert scores.argmax() == 0
    assert scores[0] > 4 * scores[1:].max()


def test_fact_9_ranks_and_dead_channels() -> None:
    maps = torch.tensor(
        [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    )
    assert ranks(maps).tolist() == [1, 2, 0]
    net, sites = one_conv(torch.tensor([[[[-1.0]]], [[[1.0]]]]))
    scores = expected_abs.expected_abs(
        net, [(torch.rand(4, 1, 5, 5) + 0.1, torch.zeros(4))], sites=sites
    )["0"]
    assert scores[0] == 0 < scores[1]


@pytest.mark.parametrize(
    "shape", [(2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (5, 12), (12, 5), (1, 7)]
)
def test_ranks_are_numpys(shape: tuple[int, int]) -> None:
    """Every one of them, those at the threshold too, where rounding in float32 decides."""
    torch.manual_seed(0)
    h, w = shape
    full = torch.randn(200, h, w).relu()
    low = torch.rand(200, h, 3) @ torch.rand(200, 3, w)
    nearly = (
        low + (10.0 ** -torch.linspace(2, 8, 200)[:, None, None] * torch.randn(200, h, w)).relu()
    )
    sparse = full * (torch.rand(200, h, 1) < 0.3)
    twins = full.clone()
    twins[:, h // 2] = twins[:, 0]
    at_threshold = torch.zeros(200, h, w)
    steps = torch.linspace(0.99, 1.01, 200) * max(shape) * torch.finfo(torch.float32).eps
    at_threshold[:, 0, 0], at_threshold[:, h - 1, w - 1] = 1, steps
    maps = torch.cat([full, low, nearly, sparse, twins, at_threshold, torch.zeros(2, h, w)])
    expected = [np.linalg.matrix_rank(one) for one in maps.numpy()]
    found = ranks(maps)
    assert found.dtype == torch.float32
    assert found.tolist() == expected
    assert ranks(maps.reshape(2, -1, h, w)).flatten().tolist() == expected


def test_ranks_of_many_threads_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(300, 8, 8) * (torch.rand(300, 8, 1) < 0.7)
    monkeypatch.setattr("advprune.pruners.criteria.matrix_rank.CHUNK", 8 * 64 * 50)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(ranks(maps))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_a_map_that_is_not_finite_has_no_rank() -> None:
    found = ranks(
        torch.stack([torch.eye(3), torch.full((3, 3), torch.nan), torch.full((3, 3), torch.inf)])
    )
    assert found[0] == 3
    assert found[1:].isnan().all()


def test_fact_10_divergence() -> None:
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    assert float(kl.divergence(q, p)) == pytest.approx(0.130812, abs=1e-6)
    assert float(kl.divergence(p, q)) == pytest.approx(0.143841, abs=1e-6)
    assert float(kl.divergence(p, p)) == 0


def test_fact_13_linear_cka() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    turned = a @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert float(cka.linear_cka(a, a)) == pytest.approx(1, abs=1e-12)
    assert float(cka.linear_cka(a, -3 * turned + 7)) == pytest.approx(1, abs=1e-12)
    assert float(cka.linear_cka(a, b)) == pytest.approx(
        float(cka.linear_cka(turned, 0.1 * b)), abs=1e-12
    )
    # centred, (-1, 0, 1) and (1, -2, 1) are orthogonal, and (-1, 1, 0) is at 60 degrees: CKA is the
    # cosine's square
    one, other = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    assert float(cka.linear_cka(one, torch.tensor([[1.0], [-2.0], [1.0]]))) == pytest.approx(
        0, abs=1e-12
    )
    assert float(cka.linear_cka(one, other)) == pytest.approx(0.25, abs=1e-12)
    assert float(cka.linear_cka(one, torch.ones(3, 1))) == 0


def test_cka_is_that_of_the_silenced_network() -> None:
    """Against the slow way: the reader's weights zeroed, the features read by hand."""
    net, x = lively("resnet_a"), torch.rand(12, *SHAPE)
    sites, features = filter_sites(net)[:1], []
    net.linear.register_forward_pre_hook(lambda module, args: features.append(args[0].detach()))
    reader = net.get_submodule("layer1.0.conv2").weight
    with torch.no_grad():
        reader[:, 3] = 0
        net(x)
        reader[:, 5] = 0
        net(x)
    reader.data[:, 5] = 1.0
    with torch.no_grad():
        net(x)
    scores = cka.cka(
        net, [(x[:7], torch.zeros(7)), (x[7:], torch.zeros(5))], sites=sites, at_once=30
    )[sites[0].name]
    assert float(scores[3]) == pytest.approx(0, abs=1e-9)
    assert float(scores[5]) == pytest.approx(
        float(1 - cka.linear_cka(features[2], features[1])), rel=1e-3, abs=1e-9
    )
    assert float(scores[5]) > 1e-6


def test_fact_10_kl_is_that_of_the_silenced_network() -> None:
    """Against the slow way: the whole network once for each unit, the reader's weights zeroed."""
    net = lively("resnet_a")
    x = torch.rand(6, *SHAPE)
    sites = filter_sites(net)[:2] + filter_sites(net)[4:5]
    before = net(x).detach().log_softmax(1)
    with torch.no_grad():
        net.get_submodule("layer1.0.conv2").weight[:, 3] = (
            0  # nothing reads filter 3 of the first site
        )
        before = net(x).log_softmax(1)
    scores = kl.kl(net, [(x, torch.zeros(6))], sites=sites, at_once=20)
    assert scores["layer1.0.conv1"][3] == 0
    for name, unit in (("layer1.0.conv1", 5), ("layer1.1.conv1", 0), ("layer2.1.conv1", 31)):
        reader = net.get_submodule(name.replace("conv1", "conv2")).weight
        kept = reader.detach().clone()
        with torch.no_grad():
            reader[:, unit] = 0
            after = net(x).log_softmax(1)
            reader.copy_(kept)
        slow = float((after.exp() * (after - before)).sum(1).mean())
        assert float(scores[name][unit]) == pytest.approx(slow, rel=1e-3, abs=1e-9)


def test_fact_11_l1() -> None:
    net, sites = one_conv(torch.tensor([[[[3.0]]], [[[-4.0]]]]))
    assert l1.l1(net, [], sites=sites)["0"].tolist() == [3, 4]
    kept = filters.uniform(l1.l1(net, [], sites=sites), 0.5, original={"0": 2})
    assert kept == {"0": [1]}


def test_other_weight_criteria_in_closed_form() -> None:
    net, sites = one_conv(
        torch.tensor([[[[3.0, 4.0]]], [[[0.0, 0.0]]], [[[0.0, 1.0]]]]).reshape(3, 2, 1, 1)
    )
    assert l2.l2(net, [], sites=sites)["0"].tolist() == [5, 0, 1]
    far = 18**0.5
    assert fpgm.fpgm(net, [], sites=sites)["0"].tolist() == pytest.approx(
        [5 + far, 6, 1 + far], rel=1e-5
    )
    with pytest.raises(UserError, match="bn_scale"):
        bn_scale.bn_scale(net, [], sites=sites)


def test_taylor_in_closed_form() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2, bias=False)
    )
    net[0].weight.data = torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1)
    net[3].weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    x, y = torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.long)
    scores = taylor.taylor(net, [(x, y)], sites=[FilterSite("0", "1", "1")], normalise=False)["0"]
    # logits (2, 0): dL/da_0 = p_0 - 1 = -1/(1 + e^2), times a_0 = 2
    assert scores.tolist() == pytest.approx([2 / (1 + np.exp(2)), 0], rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "published"),
    [(0.05, 5.702), (0.1, 10.378), (0.15, 14.482), (0.25, 24.860), (0.5, 49.720)],
)
def test_fact_14_published_macs(resnet56: Dense, ratio: float, published: float) -> None:
    scores = {site: torch.arange(float(width)) for site, width in resnet56.widths.items()}
    kept = filters.uniform(scores, ratio, original=resnet56.widths)
    removed = {site: width - len(kept[site]) for site, width in resnet56.widths.items()}
    assert len(removed) == 27
    assert 100 * resnet56.share("macs", removed, []) == pytest.approx(published, abs=5e-4)


def test_fact_15_resnet110(resnet110: Dense) -> None:
    scores = {site.name: torch.tensor(float(i)) for i, site in enumerate(resnet110.blocks)}
    line = blocks.order(scores, resnet110.blocks)
    assert total(resnet110.costs)[1] == 253_149_824
    shares = [round(100 * resnet110.share("macs", {}, line[:count]), 4) for count in (1, 24, 47)]
    assert shares[0] == 1.8640
    assert [round(share, 2) for share in shares[1:]] == [44.73, 87.61]


def test_blocks_of_a_chain_are_an_error() -> None:
    with pytest.raises(
        UserError, match=r"pruner=blocks needs a network of residual blocks.*pruner=filters"
    ):
        blocks.choose({}, 0.3, sites=block_sites(network("vgg16_bn")), share=lambda gone: 0.0)


def test_more_blocks_than_there_are(resnet56: Dense) -> None:
    scores = {site.name: torch.tensor(0.0) for site in resnet56.blocks}
    with pytest.raises(UserError, match=r"21 of 27 blocks may go and the largest is 0\.788"):
        blocks.choose(
            scores, 0.9, sites=resnet56.blocks, share=lambda gone: resnet56.share("macs", {}, gone)
        )


def test_hydras_filters_are_those_of_small_l1() -> None:
    scores = filters.of_weight_scores({"a.weight": torch.tensor([[1.0, -5.0], [2.0, 2.0]])}, ["a"])
    assert scores["a"].tolist() == [6, 4]


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A residual network on 8x8 images, trained a little, so that criteria have something to see."""
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy(x / 16).float().reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(y)
    net = network("resnet20", in_channels=1, image_size=8, mean=[0.3], std=[0.4], width=8)
    made = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for step in range(25):
        part = slice(64 * step % 1500, 64 * step % 1500 + 64)
        made.zero_grad()
        nn.functional.cross_entropy(net(images[part]), labels[part]).backward()
        made.step()
    return net, [(images[i : i + 100], labels[i : i + 100]) for i in range(0, 500, 100)]


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("unit", ["filters", "blocks"])
def test_every_criterion_on_digits_within_seconds(name: str, unit: str, digits: tuple) -> None:
    net, batches = digits
    sites = filter_sites(net) if unit == "filters" else block_sites(net)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    net.train()
    begun = time.process_time()  # of this process: a busy machine must not fail it
    scores = CRITERIA[name](net, batches, sites=sites)
    assert time.process_time() - begun < 5
    assert list(scores) == [site.name for site in sites]
    for site in sites:
        expected = (
            () if isinstance(site, BlockSite) else (net.get_submodule(site.conv).weight.shape[0],)
        )
        assert tuple(scores[site.name].shape) == expected
        assert torch.isfinite(scores[site.name]).all()
    assert len({float(score.double().sum()) for score in scores.values()}) > len(sites) // 2, (
        "scores tell units apart"
    )
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert not any("forward" in vars(module) or module._forward_hooks for module in net.modules())
    again = CRITERIA[name](net, batches, sites=sites)
    assert all(torch.equal(scores[key], again[key]) for key in scores)


@pytest.mark.parametrize("name", ["expected_abs", "hrank", "taylor", "pls", "kl", "cka"])
def test_no_images_is_an_error(name: str, digits: tuple) -> None:
    net, _ = digits

    def none() -> Iterator[tuple[Tensor, Tensor]]:
        yield from ()

    with pytest.raises(UserError, match="needs images"):
        CRITERIA[name](net, none(), sites=filter_sites(net))
