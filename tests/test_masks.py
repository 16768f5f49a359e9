"""Masks as values: exact counts by hand and by a sort, files, checksums, and errors that name the tensor."""

import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from advprune.errors import UserError
from advprune.masks import (
    authors_count,
    check,
    check_ratio,
    checksum,
    keep_count,
    matched,
    prunable,
    sparsity,
    top_k,
)
from advprune.modules.weights_io import load_masks, save_masks
from advprune.surgery.subnet import apply


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 2, 1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def test_prunable_is_convolution_and_linear_weights_and_nothing_else():
    assert list(prunable(net())) == ["0.weight", "2.weight", "4.weight"]
    assert list(prunable(nn.Linear(2, 2))) == ["weight"]


def test_a_weight_two_layers_share_is_listed_once():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert list(prunable(model)) == ["0.weight"]


@pytest.mark.parametrize(
    ("n", "ratio", "kept"),
    [
        *[
            (100, 0.9, 10),
            (1000, 0.99, 10),
            (100, 0.1, 90),
            (100, 0.2, 80),
            (10, 0.99, 1),
            (10, 0.0, 10),
        ],
        *[(1000, 0.999, 1), (432, 0.99, 4), (2560, 0.99, 26), (10**9, 0.3, 7 * 10**8), (0, 0.5, 0)],
        *[(5, 0.5, 2), (7, 0.5, 4)],  # halves go to the even count
    ],
)
def test_keep_count_is_that_of_the_decimal_a_person_wrote(n, ratio, kept):
    assert keep_count(n, ratio) == kept


@given(st.integers(1, 10**6), st.integers(0, 999))
def test_keep_count_is_within_half_a_weight(n, thousandths):
    exact = Fraction(1000 - thousandths, 1000) * n
    kept = keep_count(n, thousandths / 1000)
    assert abs(kept - exact) <= Fraction(1, 2) or (kept == 1 and exact < Fraction(1, 2))


@pytest.mark.parametrize("ratio", [99, 1, 1.0, -0.1, float("nan"), True])
def test_a_ratio_outside_its_range_is_refused_with_the_cure(ratio):
    with pytest.raises(UserError, match=r"share removed, in \[0, 1\); for 99 % write ratio=0.99"):
        check_ratio(ratio)


def test_authors_count_truncates_as_their_floats_do():
    assert [authors_count(n, 0.1) for n in (10, 100, 1000, 432, 2560)] == [1, 10, 100, 44, 256]
    assert authors_count(100, 0.9) == 91


def by_sorting(scores: torch.Tensor, k: int) -> torch.Tensor:
    order = sorted(range(scores.numel()), key=lambda i: (-scores.reshape(-1)[i].item(), i))
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.reshape(scores.shape)


@given(
    st.lists(
        st.sampled_from([-torch.inf, -1.0, -0.0, 0.0, 0.5, 2.0, torch.inf]), min_size=1, max_size=40
    ),
    st.data(),
)
def test_top_k_equals_a_stable_sort(values, data):
    k = data.draw(st.integers(0, len(values)))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        scores = torch.tensor(values, dtype=dtype)
        assert torch.equal(top_k(scores, k), by_sorting(scores, k))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_top_k_keeps_exactly_k_and_none_below_a_dropped_one(seed, share):
    scores = torch.randn(7, 11, 13, generator=torch.Generator().manual_seed(seed))
    k = round(share * scores.numel())
    mask = top_k(scores, k)
    assert int(mask.sum()) == k
    if 0 < k < scores.numel():
        assert scores[mask].min() >= scores[~mask].max()


def test_equal_scores_at_half_keep_the_first_half():
    assert torch.equal(top_k(torch.ones(2, 5), 5), torch.tensor([[True] * 5, [False] * 5]))


def test_top_k_does_not_touch_its_input():
    scores = torch.randn(100, requires_grad=True)
    before = scores.detach().clone()
    assert not top_k(scores, 10).requires_grad
    assert torch.equal(scores, before)


def test_nan_and_an_impossible_count_are_errors():
    with pytest.raises(UserError, match="1 of 2 scores are NaN"):
        top_k(torch.tensor([1.0, torch.nan]), 2)
    with pytest.raises(ValueError, match="cannot keep 3 of 2"):
        top_k(torch.ones(2), 3)


def test_top_k_is_many_times_faster_than_a_sort():
    scores = torch.rand(2_000_000)

    def seconds(call):  # of the processor: other processes may want it too
        times = []
        for _ in range(3):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(lambda: top_k(scores, 20_000)) < seconds(lambda: torch.sort(scores)) / 2


def test_sparsity_counts_by_layer_and_over_all_entries():
    masks = {"a": torch.tensor([True, False, False, False]), "b": torch.ones(12, dtype=torch.bool)}
    counted = sparsity(masks)
    assert counted.kept == {"a": 1, "b": 12}
    assert counted.layers == {"a": 0.75, "b": 0.0}
    assert counted.overall == 1 - 13 / 16
    assert sparsity({"w": torch.tensor([0.0, -0.0, 1e-30, -2.0])}).kept == {"w": 2}


def masks_for(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: torch.rand_like(weight) > 0.5 for name, weight in prunable(model).items()}


def test_check_names_the_tensor_with_a_living_pruned_weight():
    model = net()
    masks = masks_for(model)
    with torch.no_grad():
        for name, weight in prunable(model).items():
            weight.mul_(masks[name])
    check(model, masks)
    masks["2.weight"] = torch.zeros_like(masks["2.weight"])
    alive = int(model[2].weight.count_nonzero())
    with pytest.raises(
        UserError, match=rf"{alive} of the 8 pruned weights of 2.weight are not zero"
    ):
        check(model, masks)
    apply(model, masks)
    with torch.no_grad():
        model[2].weight.view(-1)[3] = 1e-30
    with pytest.raises(UserError, match=r"1 of the 8 pruned weights of 2\.weight are not zero"):
        check(model, masks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("4.weight"), "4.weight has no mask"),
        (
            lambda m: m.update(fc=torch.ones(1, dtype=torch.bool)),
            "the mask fc names no parameter of Sequential",
        ),
        (
            lambda m: m.update({"2.weight": m["2.weight"][:1]}),
            r"the mask of 2.weight is torch.bool \(1, 4, 1, 1\)",
        ),
        (
            lambda m: m.update({"2.weight": m["2.weight"].float()}),
            "the mask of 2.weight is torch.float32",
        ),
    ],
)
def test_masks_that_do_not_fit_are_named(change, message):
    masks = masks_for(net())
    change(masks)
    with pytest.raises(UserError, match=message):
        matched(net(), masks)


def test_a_mask_may_also_cover_a_bias():
    masks = masks_for(net()) | {"4.bias": torch.tensor([True, False, True])}
    assert list(matched(net(), masks)) == ["0.weight", "2.weight", "4.weight", "4.bias"]


def test_masks_come_back_from_a_file(tmp_path):
    masks = masks_for(net())
    save_masks(masks, tmp_path / "masks.safetensors")
    again = load_masks(tmp_path / "masks.safetensors")
    assert checksum(again) == checksum(masks)
    assert all(torch.equal(again[name], masks[name]) for name in masks)


def test_a_missing_truncated_or_wrong_file_is_named(tmp_path):
    path = tmp_path / "masks.safetensors"
    with pytest.raises(UserError, match=r"masks.safetensors cannot be read as masks"):
        load_masks(path)
    save_masks(masks_for(net()), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"masks.safetensors cannot be read as masks"):
        load_masks(path)
    save_masks({"w": torch.ones(3)}, path)
    with pytest.raises(UserError, match=r"w as torch.float32; masks are torch.bool"):
        load_masks(path)


def test_the_checksum_is_of_names_shapes_and_entries_not_of_their_order():
    a, b = torch.tensor([True, False, True, False]), torch.tensor([True])
    assert checksum({"a": a, "b": b}) == checksum({"b": b, "a": a})
    others = [{"a": b, "b": a}, {"a": ~a, "b": b}, {"a": a.reshape(2, 2), "b": b}, {"a": a}]
    assert len({checksum(masks) for masks in [{"a": a, "b": b}, *others]}) == 5
    # pinned: keys of old runs are built on it
    assert checksum({"a": a}) == "457e47eb6e5f1566aa1360bf2440bdb41e087b93134ad11b52f82b0c64648e3b"
