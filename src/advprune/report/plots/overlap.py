"""Plot mask overlap: of the weights that either of two pruners keeps, the share that both keep."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import mean

import numpy as np

from advprune.report.data.leaderboard_rows import method
from advprune.report.data.row import Row
from advprune.report.plots.data import PlotData, group_rows, setting_text
from advprune.report.plots.figure import drawing, finish, heat
from advprune.report.plots.style import Plot

KIND = "Mask overlap"
NEEDS = "three pruners of single weights on one dense parent at one ratio"
MASKS = "masks.safetensors"


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, objective and ratio that three pruners share."""
    rows = [row for row in data.rows if row["unit"] == "weights"]
    networks = [group[0] for group in group_rows(rows, lambda row: row["network"])]
    names = ("dataset", "model", "objective", "ratio")
    groups = group_rows(networks, lambda row: tuple(row[name] for name in names))
    return (_plot(group, data) for group in groups if len(group) > 2)


def packed_mask(path: Path) -> np.ndarray:
    """Return a mask file as packed bits: all tensors, concatenated in the order of their names.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        masks = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
    return np.packbits(np.concatenate([masks[name].reshape(-1) for name in sorted(masks)]))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of what either keeps that both keep (Jaccard); 1 if neither keeps any."""
    either = int(np.bitwise_count(a | b).sum())
    return int(np.bitwise_count(a & b).sum()) / either if either else 1.0


def _plot(rows: list[Row], data: PlotData) -> Plot:
    """Draw the matrix.

    Only masks of one dense parent and seed are compared: another parent has other weights.
    """
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    names = sorted(method(row) for row in rows)
    for seed in sorted({seed for row in rows for seed in row["runs"]}):
        bits = {}
        for row in rows:
            run = data.runs.get(row["runs"].get(seed, ""))
            pruned = None if run is None else run.stage("pruned")
            if run is not None and pruned is not None:
                for mask in data.readable(packed_mask, [pruned.folder / MASKS]):
                    bits[method(row)] = (run.dense.key, mask)
        for a, b in combinations(sorted(bits), 2):
            if bits[a][0] == bits[b][0] and bits[a][1].shape == bits[b][1].shape:
                shares[a, b].append(overlap(bits[a][1], bits[b][1]))
    values = [[1.0 if a == b else _mean_share(shares, a, b) for b in names] for a in names]
    label = 0.08 * max(map(len, names))  # inches
    with drawing(1.2 + label + 0.55 * len(names), 1 + label + 0.5 * len(names)) as (figure, axes):
        heat(axes[0], values, names, names)
        ratio = rows[0]["ratio"]
        title = f"{setting_text(rows[0])}, ratio {ratio:g}"
        by_chance = 100 * (1 - ratio) / (1 + ratio)
        return finish(
            figure,
            title,
            KIND,
            title,
            "In percent: kept by both, of those that either keeps. "
            f"Two random masks share about {by_chance:.1f}. Means over seeds.",
        )


def _mean_share(shares: dict[tuple[str, str], list[float]], a: str, b: str) -> float | None:
    values = shares.get((min(a, b), max(a, b)))
    return mean(values) if values else None
