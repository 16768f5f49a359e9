"""Which differences stand: two methods on the same images, by McNemar's test, corrected for how many are asked.

Of one pair of networks, the exact test (scipy: binomial, on the images that only one of them has
right). Of several seeds, a difference must show in each of them: the largest p of all, or 1 if they
disagree on its sign (an intersection- union test; seeds share their images, so their counts are not
added up). All p of one report are corrected together by Benjamini and Yekutieli (scipy), which
holds however the comparisons depend on each other, and they do: they share networks. ``q`` is the
corrected p; a difference stands if q < 0.05.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from statistics import mean
from typing import Any

from advprune.report.data.intervals import of_difference, over_seeds
from advprune.report.data.records import Verdicts, discordant
from advprune.report.data.runs import Found, Run

LEVEL = 0.05
#: What two methods may differ in, one thing at a time, and what of each stage goes with that
#: choice.
PHASES = ("pruned", "finetuned")
AXES: dict[str, dict[str, tuple[str, ...]]] = {
    "pruner": {"pruned": ("pruner", "search", "between", "objective")},
    "objective": dict.fromkeys(
        ("dense", "pruned", "finetuned", "quantized"), ("objective", "select")
    ),
}


def cells(run: Run, axis: str) -> set[str]:
    """Any in common: the runs differ at most in their ``axis``; same data, recipe, budget, ratio, attack and seed.

    The budget of two pruners is the same if they are fine-tuned for as many epochs, or if they
    train for as many in all, a search for a mask and what is between rounds counted.
    """
    given = [
        (stage.kind, _without(stage, AXES[axis])) for stage in (*run.line, *(run.source or ()))
    ]
    told = {json.dumps([axis, run.seed, given], sort_keys=True)}
    if axis == "pruner" and run.stage("finetuned") is not None:
        in_all = [
            (kind, _with_epochs(kind, options, epochs_after_dense(run))) for kind, options in given
        ]
        told.add(json.dumps([axis, run.seed, in_all], sort_keys=True))
    return told


def epochs_after_dense(run: Run) -> float:
    """Of the search for a mask, of all rounds but the last, and of the fine-tuning after them."""
    pruned, tuned = run.stage("pruned"), run.stage("finetuned")
    total = 0.0 if tuned is None else float(tuned.options["recipe"]["epochs"])
    if pruned is not None and pruned.options.get("search"):
        total += float(pruned.options["search"]["epochs"])
    if pruned is not None and pruned.options.get("between"):
        pruner = pruned.options["pruner"]
        total += pruner["epochs_per_round"] * (pruner["rounds"] - 1)
    return total


def _with_epochs(kind: str, options: dict[str, Any], epochs: float) -> dict[str, Any]:
    """As many epochs in all, instead of so many of fine-tuning."""
    recipe = {name: value for name, value in options.get("recipe", {}).items() if name != "epochs"}
    return options | {"recipe": recipe, "epochs in all": epochs} if kind == "finetuned" else options


def _without(stage: Found, dropped: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """A stage's options but for the choice; not so what is removed, weights or filters, for the ratio is of these."""
    kept = {
        name: value
        for name, value in stage.identity.items()
        if name not in dropped.get(stage.kind, ())
    }
    return kept | {"unit": stage.identity.get("pruner", {}).get("unit")}


def comparisons(runs: Iterable[tuple[Run, Verdicts]]) -> list[dict[str, Any]]:
    """Every two methods that differ in one thing.

    Returns:
        A dict each: ``axis``, ``of`` and ``against`` (the runs, by seed), ``difference`` in shares
            (of minus against,
        mean over seeds) and its ``interval`` over images and seeds, ``only_of`` and
        ``only_against`` (images, over all seeds), ``images``, ``p``, ``q``, ``stands``.
    """
    alike: dict[str, list[tuple[Run, Verdicts]]] = defaultdict(list)
    for run, verdicts in runs:
        for axis in AXES:
            if axis == "objective" or run.stage("pruned") is not None:
                for name in cells(run, axis):
                    alike[name].append((run, verdicts))
    pairs: dict[tuple[str, str, str], dict[int, Any]] = defaultdict(dict)
    for name, members in alike.items():
        axis = json.loads(name)[0]
        for (a, right_a), (b, right_b) in combinations(
            sorted(members, key=lambda one: one[0].identity), 2
        ):
            same = (right_a.name, right_a.images) == (right_b.name, right_b.images)
            if same and a.identity != b.identity:
                counts = (right_a.count, *discordant(right_a, right_b))
                pairs[axis, a.identity, b.identity][a.seed] = (a, b, *counts)
    told = [_compared(axis, list(seeds.values())) for (axis, _, _), seeds in pairs.items()]
    return list(_corrected(told))


def _compared(axis: str, seeds: list[tuple[Run, Run, int, int, int]]) -> dict[str, Any]:
    """One comparison over its seeds."""
    differences = [(only_a - only_b) / images for _, _, images, only_a, only_b in seeds]
    bounds = [of_difference(only_a, only_b, images) for _, _, images, only_a, only_b in seeds]
    return {
        "axis": axis,
        "of": {a.seed: a for a, *_ in seeds},
        "against": {b.seed: b for _, b, *_ in seeds},
        "difference": mean(differences),
        "interval": over_seeds(differences, bounds),
        "only_of": sum(only for *_, only, _ in seeds),
        "only_against": sum(only for *_, only in seeds),
        "images": seeds[0][2],
        "seeds": len(seeds),
        "p": on_every_seed([(only_a, only_b) for *_, only_a, only_b in seeds]),
    }


def on_every_seed(counts: list[tuple[int, int]]) -> float:
    """p of a difference that shows on every seed: the largest of the exact McNemar p, 1 if the signs disagree."""
    from scipy.stats import (
        binomtest,
    )  # a second to import, which a report without comparisons need not spend

    if any(a > b for a, b in counts) and any(a < b for a, b in counts):
        return 1.0
    return max(float(binomtest(a, a + b).pvalue) if a + b else 1.0 for a, b in counts)


def _corrected(told: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not told:
        return
    from scipy.stats import false_discovery_control

    for row, q in zip(
        told, false_discovery_control([row["p"] for row in told], method="by"), strict=True
    ):
        yield row | {"q": float(q), "stands": bool(q < LEVEL)}
