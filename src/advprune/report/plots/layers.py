"""Plot per-layer sparsity: bars for each pruner at one ratio, from masks or tensor sizes."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from advprune.report.data.leaderboard_rows import method
from advprune.report.data.row import Row
from advprune.report.data.runs import Run
from advprune.report.plots.data import PlotData, group_rows
from advprune.report.plots.figure import drawing, finish, hover, legend
from advprune.report.plots.style import Plot

KIND = "Per-layer sparsity"
NEEDS = "two pruners at one ratio whose layers did not all lose the same share"
WEIGHTS = "model.safetensors"


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, objective and ratio."""
    rows = [row for row in data.rows if row["pruner"]]
    networks = [
        group[0] for group in group_rows(rows, lambda row: row["network"])
    ]  # one row a network, however many attacks it has
    names = ("dataset", "model", "objective", "ratio", "unit")
    groups = group_rows(networks, lambda row: tuple(row[name] for name in names))
    return (plot for group in groups if (plot := _plot(group, data)))


def layer_sparsity(run: Run) -> dict[str, float]:
    """Return the share of zeros, or of what was removed, in each prunable tensor, in network order.

    Raises:
        ValueError: naming the file, if the weights of a network cannot be read.
    """
    for stage in (run.final, run.stage("finetuned"), run.stage("pruned")):
        if stage is not None and "layers" in stage.result:
            order = list(_tensor_sizes(run.dense.folder / WEIGHTS))
            zeros = stage.result["layers"]  # of a pruner that takes biases also those of them
            return {name: zeros[name] for name in order if name in zeros}
    pruned = run.stage("pruned")
    assert pruned is not None
    before, after = (
        _tensor_sizes(run.dense.folder / WEIGHTS),
        _tensor_sizes(pruned.folder / WEIGHTS),
    )
    return {name: 1 - after.get(name, 0) / size for name, size in before.items()}


@cache
def _tensor_sizes(path: Path) -> dict[str, int]:
    """Return the number of elements of each tensor of two or more dimensions, in file order."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
    return {name: prod(shape) for name, shape in shapes.items() if len(shape) > 1}


def _plot(rows: list[Row], data: PlotData) -> Plot | None:
    per_seed = {
        method(row): data.readable(layer_sparsity, map(data.runs.get, row["runs"].values()))
        for row in rows
    }
    by_method = {name: _mean_shares(shares) for name, shares in per_seed.items() if shares}
    if len(by_method) < 2 or _all_alike(by_method):
        return None
    names = list(dict.fromkeys(name for shares in by_method.values() for name in shares))
    with drawing(max(6.4, 1.5 + 0.16 * len(names) * (len(by_method) + 1)), 3.4) as (figure, axes):
        width = 0.8 / len(by_method)
        for index, (name, shares) in enumerate(sorted(by_method.items())):
            at = [i + (index - (len(by_method) - 1) / 2) * width for i in range(len(names))]
            colour = data.looks.of(name)["color"]
            bars = axes[0].bar(
                at,
                [100 * shares.get(layer, 0) for layer in names],
                width * 0.9,
                label=name,
                color=colour,
            )
            for bar, layer in zip(bars, names, strict=True):
                hover(bar, [f"{name}, {layer}: {100 * shares.get(layer, 0):.1f} %"])
        axes[0].set_xticks(
            range(len(names)),
            [name.removesuffix(".weight") for name in names],
            **_label_style(len(names)),
        )
        axes[0].set(ylabel="removed, %", ylim=(0, 104))
        legend(figure, axes)
        what = ", ".join(str(rows[0][name]) for name in ("dataset", "model", "objective"))
        title = f"{what}, {rows[0]['unit']}, ratio {rows[0]['ratio']:g}"
        return finish(
            figure, title, KIND, title, "Counted in each prunable tensor; means over seeds."
        )


def _all_alike(by_method: dict[str, dict[str, float]]) -> bool:
    """Return whether all layers of all networks lost the same share, to half a point."""
    shares = [share for layers in by_method.values() for share in layers.values()]
    return not shares or max(shares) - min(shares) < 0.005


def _label_style(labels: int) -> dict[str, Any]:
    """Return how to set the labels of bars: level as long as they have room."""
    return {"rotation": 60, "ha": "right"} if labels > 6 else {}


def _mean_shares(per_seed: list[dict[str, float]]) -> dict[str, float]:
    return {name: mean(shares[name] for shares in per_seed) for name in per_seed[0]}
