"""Find the options that give a network the shapes of a file, on the meta device: no memory."""

import itertools
import math
import re
from collections.abc import Iterator

from torch import Tensor

from advprune.models.checkpoints.meta_network import Builder, Options, choices, shapes_of
from advprune.models.checkpoints.names import Match, match, shared

#: Sides of images that networks whose linear layers depend on them are tried with.
SIDES = (32, 28, 8, 64, 96, 128, 224)
#: Share of the names that a network must have in common with a file, for its options to be tried.
ALIKE = 0.3
DEPTHS = (18, 34, 50, 101, 152)


def fitted_options(
    builder: Builder, options: Options, data: Options, theirs: dict[str, Tensor]
) -> Options | None:
    """Return the options that give the network the file's names and shapes, or None."""
    plain = shapes_of(builder, options, data)
    if plain is None or shared(plain, theirs) < ALIKE:
        return None
    words = {name: values for name, values in choices(builder).items() if name in options}
    for chosen in itertools.product(*words.values()):
        choice = {**options, **dict(zip(words, chosen, strict=True))}
        for changed in _deep(builder, choice, data, theirs):
            fitted = _wide(builder, changed, data, theirs)
            if fitted is not None:
                return fitted
    return None


def _deep(
    builder: Builder, options: Options, data: Options, theirs: dict[str, Tensor]
) -> Iterator[Options]:
    """Yield the options with the depth that gives as many layers as the file has."""
    if "blocks" in options:
        counts = [0] * len(options["blocks"])
        for stage, block in (
            hit.groups() for name in theirs for hit in re.finditer(r"layer(\d)\.(\d+)\.", name)
        ):
            if 0 < int(stage) <= len(counts):
                counts[int(stage) - 1] = max(counts[int(stage) - 1], int(block) + 1)
        if all(counts):
            yield {**options, "blocks": counts}
        return
    if not isinstance(options.get("depth"), int):
        yield options
        return
    wanted, depth = _count(theirs), options["depth"]
    here, next_one = (shapes_of(builder, {**options, "depth": d}, data) for d in (depth, depth + 6))
    depths = [depth]
    if here is not None and next_one is not None and _count(next_one) > _count(here):
        step = (_count(next_one) - _count(here)) / 6
        depths += [round(depth + (wanted - _count(here)) / step)]
    else:
        depths += [other for other in DEPTHS if other != depth]
    for each in dict.fromkeys(depths):
        shapes = shapes_of(builder, {**options, "depth": each}, data)
        if shapes is not None and _count(shapes) == wanted:
            yield {**options, "depth": each}


def _count(weights: dict[str, Tensor]) -> int:
    return sum(
        tensor.ndim in (2, 4) and name.endswith("weight") for name, tensor in weights.items()
    )


def _wide(
    builder: Builder, options: Options, data: Options, theirs: dict[str, Tensor]
) -> Options | None:
    """Return the options with the widths that give the file's shapes, or None."""
    numbers = [name for name, value in options.items() if name != "depth" and _is_number(value)]
    lists = [
        name for name, value in options.items() if isinstance(value, list) and name != "blocks"
    ]
    outputs = [
        tensor.shape[0]
        for name, tensor in theirs.items()
        if tensor.ndim in (2, 4) and name.endswith("weight")
    ]
    starts = [options, *({**options, name: outputs[: len(options[name])]} for name in lists)]
    for start in starts:
        for side in SIDES:
            sized = {**data, "image_size": side}
            shapes = shapes_of(builder, start, sized)
            fit = None if shapes is None else match(shapes, theirs)
            if fit is None or fit.missing or fit.unexpected or fit.ambiguous:
                break
            if fit.fits:
                return start
            widened = _widened(builder, start, numbers, sized, theirs, fit)
            if widened is not None:
                return widened
            if not _of_size(fit):
                break
    return None


def _of_size(fit: Match) -> bool:
    """Return whether only a linear layer's number of inputs differs."""
    return all(len(a) == len(b) == 2 and a[0] == b[0] for a, b in fit.differing.values())


def _widened(
    builder: Builder,
    start: Options,
    numbers: list[str],
    data: Options,
    theirs: dict[str, Tensor],
    fit: Match,
) -> Options | None:
    """Scale one numeric option until the file's shapes are met; None where none does."""
    ratios = {a[0] / b[0] for a, b in fit.differing.values() if a and b and a[0] != b[0]}
    for name, ratio in itertools.product(numbers, ratios):
        value = start[name] * ratio
        if isinstance(start[name], int):
            if not math.isclose(value, round(value)):
                continue
            value = round(value)
        shapes = shapes_of(builder, {**start, name: value}, data)
        if shapes is not None and match(shapes, theirs).fits:
            return {**start, name: value}
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
