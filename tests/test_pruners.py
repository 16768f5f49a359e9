"""What decides: scopes against slow references and exact counts, schedules in closed form, criteria, their YAMLs."""

import inspect
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import get_args

import pytest
import torch
from hydra.utils import get_method
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import nn

from advprune.errors import UserError
from advprune.masks import checksum, keep_count, prunable, sparsity, top_k
from advprune.pruners import scopes
from advprune.pruners.hydra import Init, initial_scores, masks_of
from advprune.pruners.magnitude import magnitude
from advprune.pruners.random import random
from advprune.pruners.schedule import Schedule, cumulative

YAMLS = sorted((Path(__file__).parents[1] / "conf" / "pruner").glob("*.yaml"))
SHAPES = st.lists(
    st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6
)


def random_scores(shapes, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(shape, generator=generator) for shape in shapes]
    return {f"{i}.weight": (s * levels).floor() if levels else s for i, s in enumerate(scores)}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))


@given(SHAPES, st.floats(0, 0.999), st.sampled_from([None, 1, 2, 5]))
def test_layer_counts_are_exact_for_any_ratio_shape_and_ties(shapes, ratio, levels):
    masks = scopes.layer(random_scores(shapes, levels=levels), ratio)
    assert [int(m.sum()) for m in masks.values()] == [
        keep_count(prod(shape), ratio) for shape in shapes
    ]


@settings(deadline=None)
@given(
    SHAPES,
    st.floats(0, 0.999),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from(["global", "erk"]),
)
def test_global_and_erk_totals_are_exact_and_no_tensor_is_emptied(shapes, ratio, levels, scope):
    total = keep_count(sum(map(prod, shapes)), ratio)
    scores = random_scores(shapes, levels=levels)
    if total < len(shapes):
        with pytest.raises(UserError, match=f"keeps {total} of .* lower ratio to at most"):
            scopes.spend(scores, ratio, scope=scope)
        return
    kept = [int(m.sum()) for m in scopes.spend(scores, ratio, scope=scope).values()]
    assert sum(kept) == total
    assert min(kept) >= 1


@pytest.mark.parametrize("scope", get_args(scopes.Scope))
@pytest.mark.parametrize("schedule", ["linear", "exponential", "cubic"])
def test_masks_of_fixed_scores_are_nested_over_rounds(scope, schedule):
    scores = random_scores([(16, 3, 3, 3), (7, 16, 3, 3), (5, 5), (10, 63)], levels=20)
    earlier = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    for ratio in cumulative(0.99, schedule=schedule, rounds=12):
        masks = scopes.spend(scores, ratio, scope=scope)
        assert all(not (masks[name] & ~earlier[name]).any() for name in masks)
        earlier = masks


@settings(deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_erk_never_gives_a_tensor_more_at_a_higher_ratio(shapes, seed):
    size = sum(map(prod, shapes))
    total = len(shapes) + seed % (size - len(shapes) + 1)
    more = scopes._erk_counts(shapes, min(total + 1, size))
    assert all(a <= b for a, b in zip(scopes._erk_counts(shapes, total), more, strict=True))


@pytest.mark.parametrize("scope", get_args(scopes.Scope))
def test_within_an_earlier_round_the_removed_stay_removed_whatever_the_new_scores(scope):
    shapes = [(16, 3, 3, 3), (20, 30)]
    earlier = scopes.spend(random_scores(shapes, seed=1), 0.5, scope=scope)
    masks = scopes.spend(random_scores(shapes, seed=2), 0.8, scope=scope, within=earlier)
    assert all(not (masks[name] & ~earlier[name]).any() for name in masks)
    assert (
        sum(sparsity(masks).kept.values()) == 206
    )  # 0.2 * 1032, and by layer 0.2 * 432 and 0.2 * 600: 86 + 120


@pytest.mark.parametrize("scope", get_args(scopes.Scope))
def test_what_is_gone_is_never_brought_back_to_make_a_count(scope):
    """Of one tensor nine tenths are gone, of the other nothing: a fair share of the first would need dead weights."""
    scores = random_scores([(20, 30), (20, 30)])
    within = {
        "0.weight": scores["0.weight"] > scores["0.weight"].flatten().sort().values[539],
        "1.weight": torch.ones(20, 30, dtype=torch.bool),
    }
    if scope == "global":
        masks = scopes.spend(scores, 0.5, scope=scope, within=within)
        assert sum(sparsity(masks).kept.values()) == 600
        assert all(not (masks[name] & ~within[name]).any() for name in masks)
    else:
        with pytest.raises(
            UserError, match=r"keeps 300 of the 600 weights of 0.weight, and 60 are left of it"
        ):
            scopes.spend(scores, 0.5, scope=scope, within=within)
    with pytest.raises(UserError, match="are left of it: what is gone does not come back"):
        scopes.spend(scores, 0.1, scope=scope, within=within)


def test_layer_and_global_spend_the_same_ratio_differently():
    scores = {"a": torch.tensor([0.1, 0.2, 0.3, 0.4]), "b": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    assert [m.tolist() for m in scopes.layer(scores, 0.5).values()] == [
        [False, False, True, True]
    ] * 2
    # plain ranking would keep all of b and none of a
    assert [m.tolist() for m in scopes.global_(scores, 0.5).values()] == [
        [False, False, False, True],
        [False, True, True, True],
    ]


@given(SHAPES, st.floats(0, 0.9), st.integers(0, 1000))
def test_global_is_the_plain_ranking_wherever_that_empties_no_tensor(shapes, ratio, seed):
    scores = random_scores(shapes, seed, levels=30)
    flat = torch.cat([s.flatten() for s in scores.values()])
    plain = top_k(flat, keep_count(flat.numel(), ratio)).split([s.numel() for s in scores.values()])
    if all(part.any() for part in plain):
        masks = scopes.global_(scores, ratio)
        assert torch.equal(torch.cat([m.flatten() for m in masks.values()]), torch.cat(plain))


def dealt_one_by_one(shapes, total):
    """Slow reference for erk: give the next weight to the tensor that is furthest behind its share."""
    counts = [1] * len(shapes)
    for _ in range(total - len(shapes)):
        behind = [
            (Fraction(c + 1, sum(s)), i)
            for i, (s, c) in enumerate(zip(shapes, counts, strict=True))
            if c < prod(s)
        ]
        counts[min(behind)[1]] += 1
    return counts


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 10**6))
def test_erk_deals_as_the_slow_reference(shapes, seed):
    total = len(shapes) + seed % (sum(map(prod, shapes)) - len(shapes) + 1)
    assert scopes._erk_counts(shapes, total) == dealt_one_by_one(shapes, total)


def test_erk_densities_are_the_papers():
    shapes = [(64, 3, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (10, 256)]
    total = keep_count(sum(map(prod, shapes)), 0.9)
    counts = scopes._erk_counts(shapes, total)
    # Evci et al.: cap what passes 1, share the rest in proportion to sum(dims) / prod(dims)
    dense: set[int] = set()
    while True:
        rest = [i for i in range(4) if i not in dense]
        rate = (total - sum(prod(shapes[i]) for i in dense)) / sum(sum(shapes[i]) for i in rest)
        over = {i for i in rest if rate * sum(shapes[i]) > prod(shapes[i])}
        if not over:
            break
        dense |= over
    assert dense == {0, 3}
    for i, count in enumerate(counts):
        expected = prod(shapes[i]) if i in dense else rate * sum(shapes[i])
        assert abs(count - expected) < 2


def test_an_unknown_scope_lists_its_members():
    with pytest.raises(UserError, match="scope='foo' is not one of layer, global, erk"):
        scopes.spend(random_scores([(2, 2)]), 0.5, scope="foo")


@pytest.mark.parametrize("scope", get_args(scopes.Scope))
def test_a_percentage_is_refused_and_a_nan_score_names_its_tensor(scope):
    with pytest.raises(UserError, match=r"write ratio=0.99"):
        scopes.spend(random_scores([(2, 2)]), 99, scope=scope)
    with pytest.raises(UserError, match=r"1.weight: 1 of 4 scores are NaN"):
        scopes.spend(
            {"0.weight": torch.ones(9), "1.weight": torch.tensor([1, 2, torch.nan, 3])},
            0.5,
            scope=scope,
        )


def test_schedules_in_closed_form():
    assert cumulative(0.9, schedule="one_shot", rounds=1) == [0.9]
    assert cumulative(0.8, schedule="linear", rounds=4) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert cumulative(0.875, schedule="exponential", rounds=3) == pytest.approx([0.5, 0.75, 0.875])
    assert cumulative(0.8, schedule="cubic", rounds=2) == pytest.approx([0.7, 0.8])
    assert cumulative(0.64, schedule="cubic", rounds=4) == pytest.approx([0.37, 0.56, 0.63, 0.64])


@given(st.sampled_from(["linear", "exponential", "cubic"]), st.floats(0, 0.999), st.integers(2, 30))
def test_a_schedule_never_falls_and_ends_exactly(schedule, ratio, rounds):
    ratios = cumulative(ratio, schedule=schedule, rounds=rounds)
    assert len(ratios) == rounds
    assert ratios[-1] == ratio
    assert ratios == sorted(ratios)
    assert ratios[0] >= 0


@given(
    st.sampled_from(["linear", "exponential", "cubic"]),
    st.floats(0, 0.9),
    st.floats(0, 1),
    st.integers(2, 9),
)
def test_a_schedule_goes_on_from_what_is_gone(schedule, ratio, part, rounds):
    start = ratio * part
    ratios = cumulative(ratio, schedule=schedule, rounds=rounds, start=start)
    assert ratios == sorted(ratios)
    assert ratios[0] >= start - 1e-12
    assert ratios[-1] == ratio
    # what is left of the start shrinks as a schedule of its own would have it
    alone = (
        cumulative(1 - (1 - ratio) / (1 - start), schedule=schedule, rounds=rounds)
        if start
        else ratios
    )
    assert [(r - start) / (1 - start) for r in ratios] == pytest.approx(
        alone if start else ratios, abs=1e-9
    )


@pytest.mark.parametrize(
    ("schedule", "rounds", "ratio", "message"),
    [
        ("foo", 1, 0.5, "one_shot, linear, exponential, cubic"),
        ("linear", 0, 0.5, "at least 1 round"),
        ("linear", 1, 0.5, "schedule=linear with rounds=1 is one shot"),
        (
            "cubic",
            1,
            0.5,
            "give two rounds or more, such as pruner.rounds=5, or pruner.schedule=one_shot",
        ),
        ("one_shot", 3, 0.5, "write schedule=linear, or rounds=1"),
        ("cubic", 3, 99, "write ratio=0.99"),
    ],
)
def test_an_impossible_schedule_is_refused(schedule, rounds, ratio, message):
    with pytest.raises(UserError, match=message):
        cumulative(ratio, schedule=schedule, rounds=rounds)


def test_magnitude_is_the_absolute_weight_and_a_value_of_its_own():
    model = net()
    with torch.no_grad():
        model[3].weight[0, :3] = torch.tensor([-2.0, 0.0, 3.0])
    scores = magnitude(model, [])
    assert list(scores) == ["0.weight", "3.weight"]
    assert scores["3.weight"][0, :3].tolist() == [2.0, 0.0, 3.0]
    scores["3.weight"].zero_()
    assert model[3].weight.any()


def test_random_scores_follow_from_the_seed_alone():
    model = net()
    state = torch.get_rng_state()
    masks = [checksum(scopes.layer(random(model, [], seed=seed), 0.5)) for seed in (1, 1, 2)]
    assert masks[0] == masks[1] != masks[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_random_scores_are_uniform():
    scores = random(nn.Linear(200, 200), [], seed=0)["weight"]
    assert scores.min() >= 0
    assert scores.max() < 1
    assert torch.histc(scores, 10, 0, 1).sub(4000).abs().max() < 5 * (40000 * 0.1 * 0.9) ** 0.5


def test_kaiming_scores_fill_their_bound_follow_the_seed_and_know_nothing_of_the_weights():
    model, far = net(), net()
    with torch.no_grad():
        far[0].weight.add_(3)
    scores, again = (initial_scores(m, init="kaiming", seed=4)["0.weight"] for m in (model, far))
    assert torch.equal(scores, again)
    bound = 1 / 27**0.5  # kaiming_uniform with a = sqrt(5): sqrt(6 / (1 + 5) / fan_in)
    assert 0.95 * bound < scores.abs().max() <= bound
    assert not torch.equal(scores, initial_scores(model, init="kaiming", seed=5)["0.weight"])


def test_magnitude_scores_are_the_signed_weights():
    model = net()
    scores = initial_scores(model, init="magnitude", seed=0)
    assert all(torch.equal(scores[name], weight) for name, weight in prunable(model).items())
    masks = masks_of(scores, 0.9, "global")
    assert checksum(masks) == checksum(scopes.global_(magnitude(model, []), 0.9))


def test_scores_that_cannot_be_made_are_refused():
    model = net()
    with pytest.raises(UserError, match="init='foo' is not one of scaled, kaiming, magnitude"):
        initial_scores(model, init="foo", seed=0)
    nn.init.zeros_(model[3].weight)
    with pytest.raises(UserError, match=r"every weight of 3.weight is zero"):
        initial_scores(model, init="scaled", seed=0)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_yaml_binds_to_its_criterion_and_uses_allowed_words(path):
    text = path.read_text()
    assert "python prune.py pruner=" in text.split("\n\n")[0]
    base = OmegaConf.load(path.parent / "base.yaml")
    own = OmegaConf.to_container(OmegaConf.load(path))
    own.pop("defaults", None)
    config = OmegaConf.to_container(base) | own
    assert set(config) == set(base), "a pruner has the keys of base.yaml"
    assert config["scope"] in get_args(scopes.Scope)
    assert config["schedule"] in get_args(Schedule)
    assert config["recovery"] in ("finetune", "rewind", "scratch")
    if isinstance(config["criterion"], dict):
        options = {key: 0 for key in config["criterion"] if not key.startswith("_")}
        inspect.signature(get_method(config["criterion"]["_target_"])).bind(None, [], **options)
    if config["search"]:
        assert config["search"]["init"] in get_args(Init)
    assert path.stem == "base" or (config["criterion"] is None) != (config["search"] is None)
