"""Networks that lose filters and blocks: equal to their silenced twins, counted, saved and read by another process."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import KINDS, RESIDUAL, lively, network
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from advprune.errors import UserError
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks, filters
from advprune.surgery import structure
from advprune.surgery.budget import Dense, dense
from advprune.surgery.cost import layers, total
from advprune.surgery.structure import Structure, shapes, shrink

SHAPE = (3, 32, 32)


def whole_of(net: torch.nn.Module) -> Dense:
    return dense(net, filter_sites(net), block_sites(net), SHAPE)


def some_filters(whole: Dense, seed: int = 0) -> dict[str, list[int]]:
    draw = torch.Generator().manual_seed(seed)
    keep = {site: max(width // 2, 1) for site, width in whole.widths.items()}
    return {
        s: sorted(torch.randperm(w, generator=draw)[: keep[s]].tolist())
        for s, w in whole.widths.items()
    }


def removable(whole: Dense) -> list[str]:
    scores = {site.name: torch.tensor(float(i % 3)) for i, site in enumerate(whole.blocks)}
    return blocks.order(scores, whole.blocks) if scores else []


@pytest.mark.parametrize("kind", KINDS)
def test_without_filters_equals_silenced(kind: str) -> None:
    net = lively(kind)
    whole = whole_of(net)
    chosen = Structure(some_filters(whole), [], {})
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        before = net(x)
        silent = shrink(copy.deepcopy(net), chosen, groups=whole.groups, sites=[], masked=True)(x)
        small = shrink(copy.deepcopy(net), chosen, groups=whole.groups, sites=[])
        after = small(x)
    scale = float(silent.abs().max())
    assert float((after - silent).abs().max()) <= 1e-5 * max(scale, 1)
    assert float((after - before).abs().max()) > 1e-3 * scale, (
        "silencing changed nothing: the test could not fail"
    )
    removed = {site: width - len(chosen.filters[site]) for site, width in whole.widths.items()}
    assert total(layers(small, SHAPE)) == total(whole.left(removed, []))
    assert sum(p.numel() for p in small.parameters()) == total(whole.left(removed, []))[0]


@pytest.mark.parametrize("kind", RESIDUAL)
def test_without_blocks_equals_silenced(kind: str) -> None:
    """Fact 6 of Jordao and Pedrini's papers."""
    net = lively(kind)
    whole = whole_of(net)
    chosen = Structure({}, removable(whole), {})
    assert chosen.blocks
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        before = net(x)
        silent = shrink(copy.deepcopy(net), chosen, groups={}, sites=whole.blocks, masked=True)(x)
        after = shrink(copy.deepcopy(net), chosen, groups={}, sites=whole.blocks)(x)
    scale = float(silent.abs().max())
    assert float((after - silent).abs().max()) <= 1e-5 * max(scale, 1)
    assert float((after - before).abs().max()) > 1e-3 * scale


@pytest.mark.parametrize("kind", KINDS)
def test_rebuilt_from_shapes_alone(kind: str, tmp_path: Path) -> None:
    net = lively(kind)
    whole = whole_of(net)
    gone = removable(whole)
    kept = {
        s: i
        for s, i in some_filters(whole).items()
        if not s.startswith(tuple(f"{name}." for name in gone))
    }
    small = shrink(
        copy.deepcopy(net), Structure(kept, gone, {}), groups=whole.groups, sites=whole.blocks
    )
    Structure(kept, gone, shapes(small)).save(tmp_path / structure.FILE)
    model, options = KINDS[kind]
    again = structure.rebuild(network(model, **options), structure.load(tmp_path / structure.FILE))
    again.load_state_dict(small.state_dict())
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), small(x))
    for a, b in zip(again.modules(), small.modules(), strict=True):
        assert repr(a) == repr(b)


def test_another_process_reads_it(tmp_path: Path) -> None:
    net = lively("resnet_a")
    whole = whole_of(net)
    kept, gone = some_filters(whole), ["layer2.1"]
    small = shrink(net, Structure(kept, gone, {}), groups=whole.groups, sites=whole.blocks)
    Structure(kept, gone, shapes(small)).save(tmp_path / structure.FILE)
    save_file(small.state_dict(), tmp_path / "model.safetensors")
    x = torch.rand(3, *SHAPE)
    save_file({"x": x}, tmp_path / "x.safetensors")
    code = """
import sys; from pathlib import Path; import torch; from safetensors.torch import load_file
sys.path.insert(0, sys.argv[2]); from networks import KINDS, network
from advprune.surgery import structure
folder = Path(sys.argv[1]); model, options = KINDS["resnet_a"]
net = structure.rebuild(network(model, **options), structure.load(folder / structure.FILE)).eval()
net.load_state_dict(load_file(folder / "model.safetensors"))
print(net(load_file(folder / "x.safetensors")["x"]).tolist())
"""
    here = str(Path(__file__).parent)
    path = ":".join([str(Path(__file__).parents[1] / "src"), here])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), here],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(json.loads(run.stdout)), small(x), rtol=1e-6, atol=1e-6
        )


def test_nothing_removed_is_bit_equal() -> None:
    net = lively("resnet_projection")
    whole = whole_of(net)
    all_of_them = {site: list(range(width)) for site, width in whole.widths.items()}
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        before = net(x)
        assert torch.equal(
            shrink(net, Structure(all_of_them, [], {}), groups=whole.groups, sites=[])(x), before
        )


def test_zeroing_the_convolution_alone_is_not_removal() -> None:
    """Fact 7: BatchNorm turns a filter of zeros into a constant."""
    net = lively("resnet_b")
    whole = whole_of(net)
    site = "layer1.0.conv1"
    kept = {site: list(range(8))}
    x = torch.rand(2, *SHAPE)
    naive = copy.deepcopy(net)
    with torch.no_grad():
        naive.get_submodule(site).weight[8:] = 0
        small = shrink(copy.deepcopy(net), Structure(kept, [], {}), groups=whole.groups, sites=[])
        assert float((naive(x) - small(x)).abs().max()) > 1e-2


def test_the_model_is_left_as_it_was() -> None:
    net = network("resnet20")
    net.train()
    net.conv1.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    whole_of(net)
    assert all(module.training for module in net.modules())
    assert not net.conv1.weight.requires_grad
    assert net.linear.weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("kind", ["resnet_projection", "mobilenet_v2", "vgg16_bn", "resnet50"])
def test_macs_are_torchs(kind: str) -> None:
    net = lively(kind)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *SHAPE))
    assert 2 * total(layers(net, SHAPE))[1] == counter.get_total_flops()


def test_structure_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / structure.FILE
    with pytest.raises(UserError, match="cannot be read"):
        structure.load(path)
    path.write_text('{"filters": {}, "blocks": [1, 2], "shapes": {}}')
    with pytest.raises(UserError, match="cannot be read"):
        structure.load(path)
    other = lively("resnet_a")
    with pytest.raises(UserError, match="does not fit"):
        structure.rebuild(network("small_cnn"), Structure({}, [], shapes(other)))
    larger = shapes(other) | {"conv1.weight": [32, 3, 3, 3]}
    with pytest.raises(UserError, match=r"conv1\.weight"):
        structure.rebuild(network("resnet20"), Structure({}, [], larger))


@pytest.mark.parametrize("part", ["filters", "blocks"])
def test_weights_without_their_structure_are_noticed(part: str) -> None:
    net = lively("resnet_a")
    whole = whole_of(net)
    chosen = (
        Structure(some_filters(whole), [], {})
        if part == "filters"
        else Structure({}, ["layer1.1"], {})
    )
    small = shrink(copy.deepcopy(net), chosen, groups=whole.groups, sites=whole.blocks)
    assert structure.misses_structure(net, small.state_dict())
    assert not structure.misses_structure(net, net.state_dict())
    assert not structure.misses_structure(network("resnet20", num_classes=100), net.state_dict())


def test_what_cannot_be_cut() -> None:
    net = lively("resnet_a")
    whole = whole_of(net)
    with pytest.raises(UserError, match="conv1 has no filters that may go"):
        shrink(net, Structure({"conv1": [0]}, [], {}), groups=whole.groups, sites=whole.blocks)
    with pytest.raises(UserError, match="at least one must stay"):
        shrink(
            net, Structure({"layer1.0.conv1": []}, [], {}), groups=whole.groups, sites=whole.blocks
        )
    with pytest.raises(UserError, match=r"layer2\.0 is no block that can be removed"):
        shrink(net, Structure({}, ["layer2.0"], {}), groups=whole.groups, sites=whole.blocks)


@pytest.mark.parametrize(
    ("kind", "ratio"), [("resnet_a", 0.5), ("vgg16_bn", 0.95), ("mobilenet_v2", 0.4)]
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_ratio_is_reached_and_not_one_filter_more(
    kind: str, ratio: float, scope: filters.Scope
) -> None:
    net = lively(kind)
    whole = whole_of(net)
    draw = torch.Generator().manual_seed(1)
    scores = {site: torch.rand(width, generator=draw) for site, width in whole.widths.items()}
    kept = filters.choose(
        scores,
        ratio,
        scope=scope,
        original=whole.widths,
        share=lambda removed: whole.share("parameters", removed, []),
    )
    removed = {site: width - len(kept[site]) for site, width in whole.widths.items()}
    small = shrink(copy.deepcopy(net), Structure(kept, [], {}), groups=whole.groups, sites=[])
    share = 1 - sum(p.numel() for p in small.parameters()) / sum(
        p.numel() for p in net.parameters()
    )
    assert share >= ratio
    fewer = [removed | {site: count - 1} for site, count in removed.items() if count]
    assert min(whole.share("parameters", less, []) for less in fewer) < ratio


def test_near_one_the_achieved_share_is_real_or_an_error() -> None:
    net = lively("resnet_b")
    whole = whole_of(net)
    scores = {site: torch.arange(float(width)) for site, width in whole.widths.items()}

    def choose(ratio: float) -> dict[str, list[int]]:
        return filters.choose(
            scores,
            ratio,
            scope="global",
            original=whole.widths,
            share=lambda removed: whole.share("parameters", removed, []),
        )

    with pytest.raises(UserError, match=r"the largest is 0\.\d+") as refused:
        choose(0.999)
    largest = float(str(refused.value).rsplit(" ", 1)[1])
    kept = choose(largest)
    assert {len(indices) for indices in kept.values()} == {1}


def test_rounded_to_eight() -> None:
    net = lively("vgg16_bn")
    whole = whole_of(net)
    scores = {site: torch.rand(width) for site, width in whole.widths.items()}
    kept = filters.choose(
        scores,
        0.6,
        scope="global",
        original=whole.widths,
        round_to=8,
        share=lambda removed: whole.share("macs", removed, []),
    )
    assert all(len(indices) % 8 == 0 for indices in kept.values())
    assert whole.share("macs", {s: w - len(kept[s]) for s, w in whole.widths.items()}, []) >= 0.6
