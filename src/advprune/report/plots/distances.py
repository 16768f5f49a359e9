"""Plot robust accuracy at every radius, from the distances of one run of a minimum-norm attack.

AutoAttack's points of the same networks are drawn in the same plot.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from advprune.report.data.leaderboard_rows import method_at_ratio
from advprune.report.data.row import Row
from advprune.report.plots.data import PlotData, bars_note, error_bar, group_rows, setting_text
from advprune.report.plots.figure import drawing, finish, legend
from advprune.report.plots.style import Plot
from advprune.report.table.job_row import strength

KIND = "Robust accuracy at every radius"
NEEDS = "an attack that finds each image's distance, such as attack=fmn"
COLUMN = "min_distance"
#: The axis ends where so few images are left, or at the largest distance.
LEFT = 0.02


def draw(data: PlotData) -> Iterator[Plot]:
    """Yield a plot for each data set, model, norm and minimum-norm attack."""
    rows = [row for row in data.rows if row.get("distance_quartiles")]
    groups = group_rows(
        rows,
        lambda row: (row["dataset"], row["model"], row["norm"], row["attack"].split(" ")[0]),
    )
    return (plot for group in groups if (plot := _plot(group, data)))


def read_distances(path: Path) -> np.ndarray:
    """Return the distance of each image in a ``records.parquet``, infinite where none was found.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=[COLUMN]).column(COLUMN).to_numpy()
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None


def security_curve(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return radii and the share of images robust at each, where the share changes.

    An image is robust at a radius that is smaller than its distance; of several seeds' images, all
    are one sample.

    Args:
        distances: one an image (N,), at least 0, infinite where no misclassified point was found.

    Returns:
        Rising radii (M,), the first 0, and shares (M,) in [0, 1] that never rise: each holds from
        its radius to the next.
    """
    radii = np.unique(np.concatenate([[0.0], distances[np.isfinite(distances)]]))
    lost = np.searchsorted(np.sort(distances), radii, side="right")
    return radii, 1 - lost / len(distances)


def _distances_of(row: Row, data: PlotData) -> np.ndarray:
    runs = [data.runs[key] for key in row["runs"].values() if key in data.runs]
    paths = [run.evaluated.folder / "records.parquet" for run in runs]
    return np.concatenate([np.empty(0), *data.readable(read_distances, paths)])


def _points(row: Row, data: PlotData) -> list[Row]:
    """Return the rows of AutoAttack on the same network, seeds and images, in the same norm."""
    same = ("network", "norm", "images")
    return [
        other
        for other in data.rows
        if strength(other) == "AutoAttack"
        and all(other[name] == row[name] for name in same)
        and other["runs"].keys() == row["runs"].keys()
    ]


def _plot(rows: list[Row], data: PlotData) -> Plot | None:
    curves = [(row, security_curve(d)) for row in rows if len(d := _distances_of(row, data))]
    if not curves:
        return None
    points = [point for row, _ in curves for point in _points(row, data)]
    with drawing(7.6, 3.6) as (figure, axes):
        for row, (radii, shares) in curves:
            look = {**data.looks.of(method_at_ratio(row)), "marker": ""}
            axes[0].step(radii, 100 * shares, where="post", label=method_at_ratio(row), **look)
            for point in _points(row, data):
                ends = [[end] for end in error_bar(point, "robust_acc")]
                look = {**data.looks.of(method_at_ratio(row)), "linestyle": ""}
                height = 100 * point["robust_acc"]
                axes[0].errorbar([point["eps"]], [height], ends, capsize=3, markersize=5, **look)
        norm, attack = rows[0]["norm"], rows[0]["attack"].split(" ")[0]
        axes[0].set(
            xlabel=f"radius ({norm}, of pixels in [0, 1])",
            ylabel="robust accuracy, %",
            xlim=(0, max(_end(radii, shares) for _, (radii, shares) in curves)),
            ylim=(0, 100),
        )
        legend(figure, axes)
        title = f"{setting_text(rows[0] | {'objective': None})}: {attack}, {norm}"
        beside = (
            f"Points: AutoAttack on the same networks and images. {bars_note(points)}"
            if points
            else ""
        )
        caption = f"From the distances of one run a seed; an upper bound. {beside}".strip()
        return finish(figure, title, KIND, title, caption)


def _end(radii: np.ndarray, shares: np.ndarray) -> float:
    few = radii[shares <= LEFT]
    return float(few[0] if len(few) else radii[-1]) or 1.0
