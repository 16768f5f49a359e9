"""Scopes: slow references, exact counts, published densities, ties, earlier rounds, bad input."""

from fractions import Fraction
from functools import partial
from math import prod
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advprune.errors import UserError
from advprune.masks import keep_count, prunable, sparsity, top_k
from advprune.models.resnet import ResNet
from advprune.pruners import scopes
from advprune.pruners.hydra import Hydra
from advprune.pruners.layouts import columns
from advprune.pruners.layouts.erk import erk_counts
from advprune.pruners.layouts.igq import igq_counts
from advprune.pruners.layouts.lamp import lamp_scores
from advprune.pruners.layouts.n_of_m import audit
from advprune.pruners.layouts.ranked import global_
from advprune.pruners.task import Task, cumulative

#: All but N:M, which fixes its ratio.
COUNTED = tuple(scope for scope in get_args(scopes.Scope) if scope != "nm")
#: Whose total is exact over all tensors together.
TOTAL = tuple(scope for scope in COUNTED if scope not in ("layer", "columns"))
#: That rank all tensors together.
RANKED = ("global", "lamp", "normed")
SHAPES = st.lists(
    st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6
)


def random_scores(shapes, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(shape, generator=generator) for shape in shapes]
    return {f"{i}.weight": (s * levels).floor() if levels else s for i, s in enumerate(scores)}


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
    st.sampled_from(TOTAL),
)
def test_totals_are_exact_and_no_tensor_is_emptied(shapes, ratio, levels, scope):
    total = keep_count(sum(map(prod, shapes)), ratio)
    scores = random_scores(shapes, levels=levels)
    if total < len(shapes):
        with pytest.raises(UserError, match=f"keeps {total} of .* lower ratio to at most"):
            scopes.spend(scores, ratio, scope=scope)
        return
    kept = [int(m.sum()) for m in scopes.spend(scores, ratio, scope=scope).values()]
    assert sum(kept) == total
    assert min(kept) >= 1


@pytest.mark.parametrize("scope", COUNTED)
@pytest.mark.parametrize("schedule", ["linear", "exponential", "cubic", "hyperbolic"])
def test_masks_of_fixed_scores_are_nested_over_rounds(scope, schedule):
    scores = random_scores([(16, 3, 3, 3), (7, 16, 3, 3), (5, 5), (10, 63)], levels=20)
    earlier = {name: torch.ones_like(score, dtype=torch.bool) for name, score in scores.items()}
    last = (
        0.97 if scope == "columns" else 0.99
    )  # one column of each layer is 2 % of the weights here
    for ratio in cumulative(last, schedule=schedule, rounds=12):
        masks = scopes.spend(scores, ratio, scope=scope)
        assert all(not (masks[name] & ~earlier[name]).any() for name in masks)
        earlier = masks


@settings(deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_erk_never_gives_a_tensor_more_at_a_higher_ratio(shapes, seed):
    size = sum(map(prod, shapes))
    total = len(shapes) + seed % (size - len(shapes) + 1)
    more = erk_counts(tuple(shapes), min(total + 1, size))
    assert all(a <= b for a, b in zip(erk_counts(tuple(shapes), total), more, strict=True))


@pytest.mark.parametrize("scope", COUNTED)
def test_within_an_earlier_round_the_removed_stay_removed_whatever_the_new_scores(scope):
    shapes = [(16, 3, 3, 3), (20, 30)]
    earlier = scopes.spend(random_scores(shapes, seed=1), 0.5, scope=scope)
    masks = scopes.spend(random_scores(shapes, seed=2), 0.8, scope=scope, within=earlier)
    assert all(not (masks[name] & ~earlier[name]).any() for name in masks)
    # 0.2 * 1032, and by layer 0.2 * 432 and 0.2 * 600: 86 + 120; 5 of 27 columns of 16, 6 of 30 of 20
    assert sum(sparsity(masks).kept.values()) == (200 if scope == "columns" else 206)


@pytest.mark.parametrize("scope", COUNTED)
def test_what_is_gone_is_never_brought_back_to_make_a_count(scope):
    """Of one tensor nine tenths are gone, of the other nothing: a fair share of the first would need dead weights."""
    scores = random_scores([(20, 30), (20, 30)])
    within = {
        "0.weight": scores["0.weight"] > scores["0.weight"].flatten().sort().values[539],
        "1.weight": torch.ones(20, 30, dtype=torch.bool),
    }
    if scope in RANKED:
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
    assert [m.tolist() for m in global_(scores, 0.5).values()] == [
        [False, False, False, True],
        [False, True, True, True],
    ]


@given(SHAPES, st.floats(0, 0.9), st.integers(0, 1000))
def test_global_is_the_plain_ranking_wherever_that_empties_no_tensor(shapes, ratio, seed):
    scores = random_scores(shapes, seed, levels=30)
    flat = torch.cat([s.flatten() for s in scores.values()])
    plain = top_k(flat, keep_count(flat.numel(), ratio)).split([s.numel() for s in scores.values()])
    if all(part.any() for part in plain):
        masks = global_(scores, ratio)
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
    assert erk_counts(tuple(shapes), total) == tuple(dealt_one_by_one(shapes, total))


def test_erk_densities_are_the_papers():
    shapes = [(64, 3, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (10, 256)]
    total = keep_count(sum(map(prod, shapes)), 0.9)
    counts = erk_counts(tuple(shapes), total)
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


@pytest.mark.parametrize("scope", COUNTED)
def test_a_percentage_is_refused_and_a_nan_score_names_its_tensor(scope):
    with pytest.raises(UserError, match=r"write ratio=0.99"):
        scopes.spend(random_scores([(2, 2)]), 99, scope=scope)
    with pytest.raises(UserError, match=r"1.weight: 1 of 4 scores are NaN"):
        scopes.spend(
            {"0.weight": torch.ones(9), "1.weight": torch.tensor([1, 2, torch.nan, 3])},
            0.5,
            scope=scope,
        )


def quotas(sizes, pressure):
    return [n / (pressure * n + 1) for n in sizes]


def test_igq_of_two_sizes_in_closed_form():
    """1010 weights at ratio 0.8: F = 0.00419743 keeps 9.597 and 192.403."""
    assert quotas((10, 1000), 0.00419743) == pytest.approx([9.597, 192.403], abs=5e-4)
    assert igq_counts((10, 1000), 202) == (10, 192)


@pytest.mark.parametrize(
    ("ratio", "densities"),
    [(0.99, (0.7801, 0.1426, 0.0026, 0.5449)), (0.9, (0.9826, 0.7260, 0.0398, 0.9502))],
)
def test_igq_keeps_the_densities_of_resnet18(ratio, densities):
    """Of the first convolution, a 64x64 one, a 512x512 one and the classifier."""
    net = ResNet(num_classes=10, in_channels=3, image_size=32, mean=[0.5] * 3, std=[0.5] * 3)
    sizes = [weight.numel() for weight in prunable(net).values()]
    counts = igq_counts(tuple(sizes), total := keep_count(sum(sizes), ratio))
    assert sum(counts) == total
    kept = dict(zip(sizes, counts, strict=True))
    chosen = (3 * 64 * 9, 64 * 64 * 9, 512 * 512 * 9, 512 * 10)
    for size, density in zip(chosen, densities, strict=True):
        assert kept[size] / size == pytest.approx(density, abs=5e-5 + 1 / size)
    pressure = 1 / kept[chosen[2]] - 1 / chosen[2]
    assert quotas(sizes, pressure) == pytest.approx(counts, rel=1e-4, abs=1)


def by_limits(sizes, total):
    """Slow reference for igq: the c-th weight rounds in while F <= 1/(c - 1/2) - 1/N."""
    limits = [
        (Fraction(1, n) - Fraction(2, 2 * c - 1), i)
        for i, n in enumerate(sizes)
        for c in range(2, n + 1)
    ]
    chosen = [i for _, i in sorted(limits)[: total - len(sizes)]]
    return tuple(1 + chosen.count(i) for i in range(len(sizes)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.integers(0, 10**6))
def test_igq_deals_as_the_slow_reference_and_never_more_at_a_higher_ratio(sizes, seed):
    total = len(sizes) + seed % (sum(sizes) - len(sizes) + 1)
    counts = igq_counts(tuple(sizes), total)
    assert counts == by_limits(sizes, total)
    more = igq_counts(tuple(sizes), min(total + 1, sum(sizes)))
    assert all(a <= b for a, b in zip(counts, more, strict=True))


def test_igq_is_uniform_over_equal_tensors_and_spares_the_small():
    assert igq_counts((50, 50, 50), 90) == (30, 30, 30)
    sizes = (30, 90, 270, 810)
    densities = [count / n for n, count in zip(sizes, igq_counts(sizes, 240), strict=True)]
    assert densities == sorted(densities, reverse=True)


def lamp_by_definition(score):
    """Slow reference: s^2 over the sum of squares of what is ranked no lower; ties by position."""
    flat = score.flatten().double().tolist()
    order = sorted(range(len(flat)), key=lambda i: (-flat[i], i))
    result, below = [0.0] * len(flat), 0.0
    for i in order:
        below += flat[i] ** 2
        result[i] = flat[i] ** 2 / below if below else float(i == order[0])
    return torch.tensor(result, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(SHAPES, st.integers(0, 1000), st.sampled_from([None, 3]), st.floats(0, 0.95))
def test_lamp_is_a_global_ranking_of_its_definition(shapes, seed, levels, ratio):
    scores = random_scores(shapes, seed, levels)
    defined = {name: lamp_by_definition(score) for name, score in scores.items()}
    flat = torch.cat(list(defined.values()))
    if (total := keep_count(len(flat), ratio)) < len(shapes):
        return
    masks = scopes.spend(scores, ratio, scope="lamp")
    wanted = top_k(flat, total).split([score.numel() for score in scores.values()])
    for mask, part in zip(masks.values(), wanted, strict=True):
        assert int(mask.sum()) == int(part.sum())
    if levels is None:
        assert torch.equal(torch.cat([m.flatten() for m in masks.values()]), torch.cat(wanted))


def test_the_largest_of_each_layer_scores_one_and_the_next_at_most_half():
    scores = lamp_scores(torch.tensor([5.0, 4.0, 3.0, 0.0]))
    assert scores.tolist() == pytest.approx([1, 16 / 41, 9 / 50, 0])
    assert lamp_scores(torch.zeros(2)).tolist() == [1, 0]
    tail = lamp_scores(torch.tensor([3.0, 0.0]), squares_above=41.0)
    assert tail.tolist() == pytest.approx(scores[2:].tolist())


def lamp_by_sorting(scores, ratio):
    """Slow reference: all scores of all tensors sorted, none left out by a bound."""
    flat = {name: score.flatten() for name, score in scores.items()}
    ranked = [lamp_scores(score.sort(descending=True).values) for score in flat.values()]
    kept = top_k(torch.cat(ranked), keep_count(sum(map(len, ranked)), ratio))
    parts = kept.split(list(map(len, ranked)))
    return [int(part.sum()) for part in parts]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("kind", ["plain", "scaled", "ties", "zeros", "sparse", "double"])
def test_bounds_leave_the_ranking_of_lamp_as_it_is(kind, ratio):
    scores = random_scores([(50, 40), (30,), (7, 9, 3, 3)], levels=3 if kind == "ties" else None)
    if kind == "scaled":
        scores |= {name: score * 10.0 ** (3 * i) for i, (name, score) in enumerate(scores.items())}
    if kind == "zeros":
        scores["0.weight"] = torch.zeros(50, 40)
    if kind == "sparse":
        scores = {n: s.masked_fill(s < 0.3, -torch.inf) for n, s in scores.items()}
    if kind == "double":
        scores = {name: (score.double() * 100).round() for name, score in scores.items()}
    masks = scopes.spend(scores, ratio, scope="lamp")
    assert [int(mask.sum()) for mask in masks.values()] == lamp_by_sorting(scores, ratio)


def test_lamp_finds_what_stays_where_one_layer_holds_nearly_all_of_it():
    scores = {f"{i}": torch.full((50,), 1e-4) for i in range(9)}
    scores |= {f"{i}": torch.cat([torch.ones(1), score[1:]]) for i, score in scores.items()}
    masks = scopes.spend(scores | {"all": torch.ones(500)}, 1 - 400 / 950, scope="lamp")
    assert [int(mask.sum()) for mask in masks.values()] == [1] * 9 + [391]


@pytest.mark.parametrize("scope", ["lamp", "normed"])
def test_a_layer_that_is_scaled_keeps_its_share(scope):
    scores = random_scores([(8, 3, 3, 3), (7, 9), (10, 8)])
    scaled = scores | {"1.weight": 1024 * scores["1.weight"]}
    before, after = (scopes.spend(s, 0.8, scope=scope) for s in (scores, scaled))
    assert all(torch.equal(before[name], after[name]) for name in scores)
    assert any(
        not torch.equal(before[name], mask)
        for name, mask in scopes.spend(scaled, 0.8, scope="global").items()
    )


def test_normed_divides_by_the_mean_of_what_is_left():
    scores = {"a": torch.tensor([1.0, 2.0, 9.0, 9.0]), "b": torch.tensor([4.0, 5.0, 6.0, 1.0])}
    within = {"a": torch.tensor([True, True, False, False]), "b": torch.ones(4, dtype=torch.bool)}
    # a / 1.5 = 0.67, 1.33; b / 4 = 1, 1.25, 1.5, 0.25
    masks = scopes.spend(scores, 0.5, scope="normed", within=within)
    assert masks["a"].tolist() == [False, True, False, False]
    assert masks["b"].tolist() == [True, True, True, False]
    assert scopes.spend({"a": torch.zeros(4)}, 0.5, scope="normed")["a"].sum() == 2


def test_lamp_refuses_scores_that_squares_would_reverse():
    with pytest.raises(UserError, match="a: scope=lamp compares squares"):
        scopes.spend({"a": torch.tensor([1.0, -1.0])}, 0.5, scope="lamp")
    with pytest.raises(UserError, match="a: scope=lamp sums squares, and a score of it is inf"):
        scopes.spend({"a": torch.tensor([1.0, torch.inf])}, 0.5, scope="lamp")


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8])
def test_columns_go_whole_by_their_norm_and_a_bias_stays(ratio):
    scores = random_scores([(8, 4, 3, 3), (5, 7)]) | {"bias": torch.rand(6)}
    masks = scopes.spend(scores, ratio, scope="columns")
    for name, size in (("0.weight", 36), ("1.weight", 7)):
        rows, norms = masks[name].flatten(1), scores[name].flatten(1).norm(dim=0)
        assert torch.equal(rows.all(0), rows.any(0))
        assert int(rows.all(0).sum()) == keep_count(size, ratio)
        assert norms[rows.all(0)].min() > max([*norms[~rows.any(0)].tolist(), 0])
    assert masks["bias"].all()
    matrices = {name: mask for name, mask in masks.items() if name != "bias"}
    expected = {"0.weight": [keep_count(36, ratio), 36], "1.weight": [keep_count(7, ratio), 7]}
    assert columns.audit(matrices) == {"columns": expected}


def test_a_column_that_is_kept_in_part_is_counted():
    masks = scopes.spend(random_scores([(4, 8)]), 0.5, scope="columns")
    masks["0.weight"][1] = True
    with pytest.raises(UserError, match=r"4 of the 8 columns of 0.weight are kept in part"):
        columns.audit(masks)
    with pytest.raises(
        UserError, match=r"with one column left in each of 1 layers, the largest is 0.8$"
    ):
        scopes.spend({"a": torch.ones(3, 5), "bias": torch.ones(3)}, 0.81, scope="columns")
    with pytest.raises(UserError, match="a: scope=columns compares squares"):
        scopes.spend({"a": torch.tensor([[1.0, -1.0]])}, 0.5, scope="columns")


GROUPS = [(1, 2), (2, 4), (4, 8), (3, 5)]


def grouped_by_sorting(score, n, m):
    """Slow reference: of each filter, position and m channels in a row, the n first by a stable sort."""
    mask = torch.zeros(score.shape, dtype=torch.bool)
    planes = score.reshape(*score.shape[:2], -1)
    flat = mask.reshape(planes.shape)
    for filter_ in range(planes.shape[0]):
        for position in range(planes.shape[2]):
            for first in range(0, planes.shape[1], m):
                group = planes[filter_, first : first + m, position].tolist()
                for i in sorted(range(m), key=lambda i: (-group[i], i))[:n]:
                    flat[filter_, first + i, position] = True
    return mask


@pytest.mark.parametrize(("n", "m"), GROUPS)
@pytest.mark.parametrize("levels", [None, 2])
def test_nm_keeps_the_largest_n_of_each_group(n, m, levels):
    scores = random_scores([(3, 2 * m, 3, 2), (4, 3 * m)], levels=levels)
    masks = scopes.spend(scores, 1 - n / m, scope="nm", n=n, m=m)
    for name, mask in masks.items():
        assert torch.equal(mask, grouped_by_sorting(scores[name], n, m))
    shares = scopes.spend(scores, 1 - n / m, scope="layer")
    assert [int(mask.sum()) for mask in masks.values()] == [int(s.sum()) for s in shares.values()]
    assert audit(masks, n=n, m=m) == {"grouped": ["0.weight", "1.weight"], "dense": []}


def test_permuting_groups_permutes_masks():
    scores = random_scores([(3, 12, 3, 3)])
    turned = {"0.weight": scores["0.weight"].roll(4, dims=1)}
    masks, moved = (scopes.spend(s, 0.5, scope="nm", n=2, m=4) for s in (scores, turned))
    assert torch.equal(masks["0.weight"].roll(4, dims=1), moved["0.weight"])


def test_nm_is_monotone_in_n():
    scores = random_scores([(3, 16, 3, 3)], levels=3)
    fewer, more = (
        scopes.spend(scores, 1 - n / 4, scope="nm", n=n, m=4)["0.weight"] for n in (1, 2)
    )
    assert not (fewer & ~more).any()


def test_nm_leaves_what_has_no_groups_as_it_is_and_names_it():
    scores = random_scores([(8, 3, 3, 3), (8, 1, 3, 3), (10, 8)]) | {"bias": torch.ones(8)}
    masks = scopes.spend(scores, 0.5, scope="nm", n=2, m=4)
    left = ["0.weight", "1.weight", "bias"]
    assert audit(masks, n=2, m=4) == {"grouped": ["2.weight"], "dense": left}
    assert all(masks[name].all() for name in left)
    within = {name: torch.ones_like(mask) for name, mask in masks.items()}
    within["0.weight"][0] = False
    again = scopes.spend(scores, 0.5, scope="nm", n=2, m=4, within=within)
    assert torch.equal(again["0.weight"], within["0.weight"])


def test_a_group_that_is_not_n_of_m_is_counted():
    masks = scopes.spend(random_scores([(4, 8)]), 0.5, scope="nm", n=2, m=4)
    masks["0.weight"][1, 4:] = True
    with pytest.raises(UserError, match=r"1 of the 8 groups of 4 weights in 0.weight do not keep"):
        audit(masks, n=2, m=4)


def test_nm_with_learned_scores_ranks_their_absolute_values():
    net = torch.nn.Sequential(torch.nn.Linear(4, 1))
    task = Task(0.5, partial(scopes.spend, scope="nm", n=2, m=4), ("0.weight",), ratios=(0.5,))
    process = Hydra(net, task)
    with torch.no_grad():
        process.score("0.weight").copy_(torch.tensor([[-4.0, 1.0, 2.0, -3.0]]))
    process.finish(net)
    masks = process.masks()
    assert masks["0.weight"].tolist() == [[True, False, False, True]]


@pytest.mark.parametrize(
    ("ratio", "n", "m", "message"),
    [
        (0.9, 2, 4, r"ratio=0.9 is not what scope=nm removes .* give ratio=0.5"),
        (0.5, None, None, "pruner.n of every pruner.m"),
        (0.0, 4, 4, "1 <= n < m <= 32, not n=4 of m=4; give for example"),
        (0.5, 5, 4, "not n=5 of m=4"),
        (0.5, 32, 64, "not n=32 of m=64"),
        (0.5, 8, 16, "scope=nm finds no layer whose input channels 16 divides"),
    ],
)
def test_nm_that_does_not_fit_is_refused_with_the_cure(ratio, n, m, message):
    with pytest.raises(UserError, match=message):
        scopes.spend(random_scores([(4, 8)]), ratio, scope="nm", n=n, m=m)


def test_nm_within_too_little_names_the_layer():
    within = {"0.weight": torch.zeros(4, 8, dtype=torch.bool)}
    with pytest.raises(UserError, match=r"cannot keep 2 of every 4 weights of 0\.weight"):
        scopes.spend(random_scores([(4, 8)]), 0.5, scope="nm", n=2, m=4, within=within)
