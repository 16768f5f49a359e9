"""Per-layer sparsity: bars for each pruner at one ratio; counted from masks, or from what is left of each tensor."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from advprune.report.data.leaderboard_rows import method
from advprune.report.data.runs import Run
from advprune.report.plots.data import Material, Row, grouped
from advprune.report.plots.style import Plot, drawing, finish, legend

KIND = "Per-layer sparsity"
NEEDS = "a pruned network"
WEIGHTS = "model.safetensors"


def draw(given: Material) -> Iterator[Plot]:
    """A plot for each data set, model, objective and ratio."""
    rows = [row for row in given.rows if row["pruner"]]
    networks = [
        group[0] for group in grouped(rows, lambda row: row["network"])
    ]  # of several attacks, one
    names = ("dataset", "model", "objective", "ratio", "unit")
    groups = grouped(networks, lambda row: tuple(row[name] for name in names))
    return (plot for group in groups if (plot := _plot(group, given)))


def layers(run: Run) -> dict[str, float]:
    """The share of zeros, or of what is gone, in each prunable tensor, in the network's order.

    Raises:
        ValueError: naming the file, if the weights of a network cannot be read.
    """
    for stage in (run.final, run.stage("finetuned"), run.stage("pruned")):
        if stage is not None and "layers" in stage.result:
            order = list(_sizes(run.dense.folder / WEIGHTS))
            return dict(
                sorted(stage.result["layers"].items(), key=lambda layer: order.index(layer[0]))
            )
    pruned = run.stage("pruned")
    assert pruned is not None
    before, after = _sizes(run.dense.folder / WEIGHTS), _sizes(pruned.folder / WEIGHTS)
    return {name: 1 - after.get(name, 0) / size for name, size in before.items()}


@cache
def _sizes(path: Path) -> dict[str, int]:
    """Elements of every tensor of two dimensions or more, from the file's header alone, in the file's order."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
    return {name: prod(shape) for name, shape in shapes.items() if len(shape) > 1}


def _plot(rows: list[Row], given: Material) -> Plot | None:
    counted = {
        method(row): given.readable(layers, map(given.runs.get, row["runs"].values()))
        for row in rows
    }
    found = {name: _mean(shares) for name, shares in counted.items() if shares}
    if not found:
        return None
    names = list(dict.fromkeys(name for shares in found.values() for name in shares))
    with drawing(max(6.4, 1.5 + 0.16 * len(names) * (len(found) + 1)), 3.4) as (figure, axes):
        width = 0.8 / len(found)
        for index, (name, shares) in enumerate(sorted(found.items())):
            at = [i + (index - (len(found) - 1) / 2) * width for i in range(len(names))]
            colour = given.looks.of(name)["color"]
            axes[0].bar(
                at,
                [100 * shares.get(layer, 0) for layer in names],
                width * 0.9,
                label=name,
                color=colour,
            )
        axes[0].set_xticks(
            range(len(names)),
            [name.removesuffix(".weight") for name in names],
            **slanted(len(names)),
        )
        axes[0].set(ylabel="removed, %", ylim=(0, 104))
        legend(figure, axes)
        what = ", ".join(str(rows[0][name]) for name in ("dataset", "model", "objective"))
        title = f"{what}, {rows[0]['unit']}, ratio {rows[0]['ratio']:g}"
        return finish(
            figure, title, KIND, title, "Counted in each prunable tensor; means over seeds."
        )


def slanted(labels: int) -> dict[str, Any]:
    """How to set the labels of bars: level as long as they have room."""
    return {"rotation": 60, "ha": "right"} if labels > 6 else {}


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: mean(shares[name] for shares in found) for name in found[0]}
