"""Sum up an evaluation's records: shares with their intervals, and reasons to doubt them."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from advprune.logits import NO_CLASS
from advprune.modules.examples import cells
from advprune.report.data.intervals import over_images
from advprune.store.keys import Node

#: Points of robust accuracy that Square may take off what gradient attacks left, before gradients
#: are distrusted.
MASKED = 0.05
PGD = "advprune.attacks.pgd.pgd"


def summary(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Count shares and bound them over the images, from the records' columns."""
    images = len(columns["image"])
    result: Node = {"images": images}
    if "clean_pred" in columns:
        result["classes_predicted"] = len(set(columns["clean_pred"]) - {NO_CLASS})
        pairs = zip(
            columns["clean_pred"], columns.get("adv_pred", columns["clean_pred"]), strict=True
        )
        result["not_finite"] = sum(NO_CLASS in pair for pair in pairs)
    # an attack has no certified images, a certifier no attacked ones
    for name in (
        "clean",
        "robust",
        "certified",
    ):
        if f"{name}_ok" in columns:
            result |= share(f"{name}_acc", sum(columns[f"{name}_ok"]), images)
    if "abstained" in columns:
        result |= {"abstained": sum(columns["abstained"]), "smoothed": any(columns["smoothed"])}
    if "audited" in columns:
        audited = sum(columns["audited"])
        held = sum(map(min, columns["audited"], columns["robust_ok"]))
        result |= {"audited": audited, "audited_held": held}
    if "source_adv_ok" in columns:
        for name, (count, of) in cells(columns).items():
            result |= share(name, count, of) | {f"{name}_of": of}
    alone, after_each = _shares_of(columns, "ok."), _shares_of(columns, "robust_ok.")
    result |= {"alone": alone, "mean_acc": sum(alone.values()) / len(alone)} if alone else {}
    if "min_distance" in columns:
        result["distance_quartiles"] = quartiles(columns["min_distance"])
        result["not_found"] = sum(map(math.isinf, columns["min_distance"]))
    return result | ({"after_each": after_each} if after_each else {})


def quartiles(distances: list[float]) -> list[float | None]:
    """Return the first quartile, the median and the third quartile; None for one that is infinite.

    A quartile is a distance of the list, so that infinite ones need no interpolation.
    """
    ranked = sorted(distances)
    chosen = [ranked[math.ceil(part * len(ranked)) - 1] for part in (0.25, 0.5, 0.75)]
    return [None if math.isinf(value) else value for value in chosen]


def _shares_of(columns: dict[str, list[Any]], prefix: str) -> dict[str, float]:
    """Return the shares of the columns with this prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): sum(column) / len(column)
        for name, column in columns.items()
        if name.startswith(prefix)
    }


def share(name: str, right: int, images: int) -> dict[str, Any]:
    """Return a share and its interval, as two entries; None for both of no images."""
    if not images:
        return {name: None, f"{name}_interval": None}
    return {name: right / images, f"{name}_interval": over_images(right, images)}


def sanity_warnings(result: Node, *, lets_through: Callable[[], bool]) -> list[str]:
    """Return sentences on what the outcome says against the evaluation.

    They are about outputs that are no logits, one class for all images, and masked gradients.

    Args:
        result: the summary of an evaluation.
        lets_through: tells whether a signal can reach the logits at all; asked where all images
            have one class.
    """
    warnings, after = [], result.get("after_each", {})
    if result.get("not_finite"):
        warnings.append(
            f"{result['not_finite']} of {result['images']} images have logits that are not finite "
            "(NaN or infinite): counted as wrong, and as not robust"
        )
    if result.get("classes_predicted") == 1:
        warnings.append(
            "the network gives every image the same class: "
            + (
                "its training collapsed; lower the learning rate"
                if lets_through()
                else "no path of kept weights leads from the image to the logits; give "
                "pruner.scope=erk or igq, or a lower ratio"
            )
        )
    if result.get("audited", 0) > result.get("audited_held", 0):
        warnings.append(
            f"the official AutoAttack broke {result['audited'] - result['audited_held']} of "
            f"{result['audited']} audited images that attack.engine=fast left right: they are not "
            "counted as robust, but others may fall too; evaluate with attack.engine=null"
        )
    before = [share for name, share in after.items() if name not in ("square", "audit")]
    if "square" in after and before and before[-1] - after["square"] > MASKED:
        warnings.append(
            f"Square, which needs no gradient, took {100 * (before[-1] - after['square']):.0f} "
            "points off what gradient attacks left: gradients are masked, and validation under "
            "PGD saw too much robustness"
        )
    return warnings


def too_short(attack: Node) -> list[str]:
    """Return a sentence for each PGD whose steps together are shorter than the ball's radius.

    From no start can such a PGD reach all of the ball, and its accuracy says little.
    """
    return [
        f"{where}steps={steps:g} of {where}rel_step={step:g} are {steps * step:.2g} of eps in all: "
        f"this PGD cannot cross its ball; leave {where}rel_step=null, which is 2.5 / steps, or "
        "give more steps"
        for where, steps, step in _pgds(attack, "attack.")
        if steps * step < 1 - 1e-9
    ]


def _pgds(node: object, where: str) -> Iterator[tuple[str, float, float]]:
    """Yield (path, steps, length of one step) of every PGD whose step length is set."""
    if not isinstance(node, dict):
        return
    if node.get("_target_") == PGD and node.get("rel_step") is not None:
        yield where, float(node.get("steps", 50)), float(node["rel_step"])
    for name, inner in node.items():
        yield from _pgds(inner, f"{where}{name}.")
