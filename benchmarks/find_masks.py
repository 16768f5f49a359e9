"""Time finding the masks of WideResNet-28-10 on a CPU: python -m benchmarks find_masks"""

import statistics
from functools import partial
from typing import get_args

import torch

from advprune.masks import Scores, keep_count
from advprune.pruners import scopes
from benchmarks._turns import seconds

RATIO = 0.99
#: Of the scopes whose time might depend on how much stays.
LOWER = (0.9, 0.5)
REPEATS = 5


def wide_resnet_28_10() -> Scores:
    """Return random scores in the shapes of a WRN-28-10: 29 tensors, 36,461,232 weights."""
    torch.manual_seed(0)
    shapes: list[tuple[int, ...]] = [(16, 3, 3, 3)]
    inside = 16
    for width in (160, 320, 640):
        shapes += [
            (width, inside, 3, 3),
            (width, width, 3, 3),
            (width, inside, 1, 1),
            *[(width, width, 3, 3)] * 6,
        ]
        inside = width
    shapes.append((10, 640))
    return {f"{i}.weight": torch.randn(shape).abs() for i, shape in enumerate(shapes)}


def by_sorting(scores: Scores, ratio: float) -> Scores:
    """Return the masks as published code finds them: sort each layer, cut."""
    masks = {}
    for name, score in scores.items():
        order = score.flatten().sort(descending=True, stable=True).indices
        mask = torch.zeros(score.numel(), dtype=torch.bool)
        mask[order[: keep_count(score.numel(), ratio)]] = True
        masks[name] = mask.reshape(score.shape)
    return masks


def median_seconds(call, *arguments) -> float:
    return statistics.median(seconds(partial(call, *arguments)) for _ in range(REPEATS))


def run() -> list[dict]:
    """Return rows of median seconds by scope, on one thread: selecting is serial."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return rows()
    finally:
        torch.set_num_threads(threads)


def rows() -> list[dict]:
    scores = wide_resnet_28_10()
    assert sum(score.numel() for score in scores.values()) == 36_461_232
    fast, slow = scopes.spend(scores, RATIO, scope="layer"), by_sorting(scores, RATIO)
    assert all(torch.equal(fast[name], slow[name]) for name in scores), (
        "the two must find the same masks"
    )
    sorting = f"{median_seconds(by_sorting, scores, RATIO):.2f} s by a stable sort of each layer"
    rows = []
    cases = [(scope, 0.5 if scope == "nm" else RATIO) for scope in get_args(scopes.Scope)]
    cases += [(scope, ratio) for scope in ("global", "lamp", "normed") for ratio in LOWER]
    for scope, ratio in cases:
        groups = {"n": 2, "m": 4} if scope == "nm" else {}
        taken = median_seconds(partial(scopes.spend, scope=scope, **groups), scores, ratio)
        rows.append(
            {
                "what": f"masks of WRN-28-10 at ratio {ratio}, scope {scope}, one thread",
                "against": sorting if scope == "layer" else "nothing",
                "bar": "<= 1 s",
                "measured": f"{taken:.2f} s",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
