"""What every criterion that a YAML names is held to, unlisted; and that the frame refuses one that breaks it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scores as broken
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from networks import network
from omegaconf import OmegaConf
from plain_options import pruner
from torch import Tensor, nn

import prune
from advprune.config.groups import Pruner, build, typed
from advprune.errors import UserError
from advprune.masks import keep_count, sparsity
from advprune.models.find_sites import block_sites, filter_sites
from advprune.pruners import blocks, filters, masking, scopes, scoring
from advprune.surgery.budget import dense

CONF = Path(__file__).resolve().parents[1] / "conf"
assert prune  # its import registers the schemas
UNITS = sorted(path.stem for path in (CONF / "pruner" / "criterion").glob("*.yaml"))
PRUNERS = sorted(
    path.stem
    for path in (CONF / "pruner").glob("*.yaml")
    if isinstance(OmegaConf.load(path).get("criterion"), dict | OmegaConf.create({}).__class__)
)
BROKEN = (
    broken.zeroes_and_nan,
    broken.nan,
    broken.infinite,
    broken.zeroes,
    broken.trains,
    broken.freezes,
    broken.gradients,
    broken.statistics,
    broken.one_short,
    broken.flat,
)


def pruner_of(*words: str) -> dict[str, Any]:
    """The options of a pruner as the command line resolves them, of small images and a short attack."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(
            "prune", [*words, "dataset=cifar10", "dataset.attack_steps=1", "threat.eps=0.1"]
        )
    pruner = OmegaConf.to_container(cfg, resolve=True)["pruner"]
    assert isinstance(pruner, dict)
    return pruner


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Convolutions, BatchNorm, shortcuts and a linear layer, in eval mode as a stage loads it, with a few odd flags."""
    net = network("resnet20", depth=14, width=4, shortcut="B", image_size=8).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return net


class Images:
    """Two batches of images, again and again."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            yield torch.rand(16, 3, 8, 8, generator=generator), torch.arange(16) % 10


def twice(ask: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was answered both times, seeded alike: the same, whatever was drawn in between."""
    answers = []
    for _ in range(2):
        torch.manual_seed(3)
        answers.append(ask())
        torch.rand(7)
    assert answers[0].keys() == answers[1].keys()
    for name, score in answers[0].items():
        assert torch.equal(score, answers[1][name]), name
    return answers[0]


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruners_criterion_keeps_the_contract(net: nn.Module, name: str) -> None:
    pruner = typed(Pruner, pruner_of(f"pruner={name}"))
    if pruner.unit is not None:
        pytest.skip("its criteria are a group of their own, below")
    assert pruner.criterion is not None
    criterion, allowed = pruner.criterion.build(), masking.removable(net, pruner)
    flags = [parameter.requires_grad for parameter in net.parameters()]
    masks = twice(lambda: masking.compute_masks(criterion, net, Images(), pruner, 0.7, None))
    assert [parameter.requires_grad for parameter in net.parameters()] == flags
    kept = sum(sparsity({n: masks[n] for n in allowed}).kept.values())
    total = sum(parameter.numel() for parameter in allowed.values())
    exact = pruner.select is None and pruner.scope != "layer"
    assert abs(kept - keep_count(total, 0.7)) <= (0 if exact else len(allowed))
    if pruner.select is None and pruner.scope == "layer":
        for n, parameter in allowed.items():
            assert int(masks[n].sum()) == keep_count(parameter.numel(), 0.7)


@pytest.mark.parametrize("unit", ["filters", "blocks"])
@pytest.mark.parametrize("name", UNITS)
def test_a_criterion_of_units_keeps_the_contract(net: nn.Module, name: str, unit: str) -> None:
    node = pruner_of(f"pruner={unit}", f"pruner/criterion={name}")["criterion"]
    node |= {
        option: 16 for option in ("images",) if node.get(option, 0) is not None and option in node
    }
    sites: list[Any] = filter_sites(net) if unit == "filters" else block_sites(net)
    whole = dense(net, filter_sites(net), block_sites(net), (3, 8, 8))
    shapes = {
        s.name: torch.Size([whole.widths[s.name]] if unit == "filters" else []) for s in sites
    }
    found = twice(
        lambda: scoring.checked_scores(build(node), net, Images(), shapes=shapes, sites=sites)
    )
    assert found.keys() == shapes.keys()
    if unit == "filters":
        kept = filters.uniform(found, 0.5, original=whole.widths)
        assert {site: len(stay) for site, stay in kept.items()} == {
            s: n // 2 for s, n in whole.widths.items()
        }
    else:
        assert len(blocks.order(found, sites, floor=1)) == sum(site.removable for site in sites)


@pytest.mark.parametrize("criterion", BROKEN)
def test_a_criterion_that_breaks_it_is_refused_by_name(criterion: Callable[..., Any]) -> None:
    net = network("resnet20", depth=8, width=4).eval()
    with pytest.raises(
        UserError, match=rf"the criterion {criterion.__name__} (changed|gives|scores) "
    ) as error:
        masking.compute_masks(criterion, net, Images(), pruner(), 0.5, None)
    assert "\n" not in str(error.value)


def test_the_authors_statistics_may_move_and_nothing_else() -> None:
    net = network("resnet20", depth=8, width=4).eval()
    options = typed(Pruner, pruner_of("pruner=gap_authors", "pruner.criterion.steps=1"))
    assert options.criterion is not None
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    masking.compute_masks(options.criterion.build(), net, Images(), options, 0.5, None)
    assert any(not torch.equal(before[name], buffer) for name, buffer in net.named_buffers())

    @scoring.moves_statistics
    def worse(model: nn.Module, batches: Iterable[Any]) -> Any:
        return broken.zeroes(model, batches)

    with pytest.raises(UserError, match=r"the criterion worse changed the weights conv1.weight"):
        masking.compute_masks(worse, net, Images(), pruner(), 0.5, None)


@pytest.mark.parametrize("scope", ["layer", "global", "erk", "igq", "lamp", "normed"])
def test_a_scope_leaves_the_scores_alone_and_counts_exactly(scope: scopes.Scope) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {
        str(i): torch.rand(s, generator=generator)
        for i, s in enumerate([(8, 3, 3, 3), (7, 9), (10, 8)])
    }
    copies = {name: score.clone().requires_grad_() for name, score in given.items()}
    masks = scopes.spend(copies, 0.8, scope=scope)
    assert all(
        torch.equal(copies[name], given[name]) and copies[name].grad is None for name in given
    )
    assert all(
        mask.dtype == torch.bool and mask.shape == given[name].shape for name, mask in masks.items()
    )
    counts = [keep_count(score.numel(), 0.8) for score in given.values()]
    whole = keep_count(sum(score.numel() for score in given.values()), 0.8)
    assert sum(int(mask.sum()) for mask in masks.values()) == (
        sum(counts) if scope == "layer" else whole
    )
