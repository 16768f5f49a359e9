"""Put the published number of a cell beside ours, and say whether the two differ significantly.

A published cell is one checkpoint on a known number of images. Its interval is that of one network
over its images (``intervals.over_images``); the difference of two shares of which only the
intervals are known is ``intervals.of_unpaired``. Ours is significant if 0 is outside of it.
"""

from advprune.report.data.intervals import of_unpaired, over_images
from advprune.report.data.row import Row

#: Two radii are the same if they differ by less: 8/255 and 0.031 do not.
SAME_EPS = 1e-6


def add_published(rows: list[Row], published: list[Row]) -> None:
    """Write ``published_acc`` and ``published_versus`` into each row that has a published cell.

    Args:
        rows: ours, pooled over seeds.
        published: see ``published.published``; those without a pruner of ours are not looked at.
    """
    cells = {_cell(row): row for row in published if row["ours"] and row["count"]}
    for row in rows:
        cell = cells.get(_cell(row))
        if cell is not None and _same_attack(row, cell) and row.get("robust_acc") is not None:
            row["published_acc"] = cell["robust_acc"]
            row["published_versus"] = _versus(row, cell)


def _cell(row: Row) -> tuple[object, ...]:
    """Return what a cell of ours and a published one have in common."""
    pruner = row["ours"] if row.get("published") else str(row["pruner"] or "").split(" ")[0]
    norm_eps = (row["norm"], None if row["eps"] is None else round(row["eps"] / SAME_EPS))
    words = (str(row[name]).split(" ")[0] for name in ("dataset", "model"))
    return (*words, pruner, row["ratio"], *norm_eps)


def _same_attack(row: Row, cell: Row) -> bool:
    """Return whether all test images were attacked by the attack of the published number."""
    whole = row.get("of") in (None, row["images"])
    return whole and str(row["attack"]).split(" ")[0] == cell["attack"]


def _versus(row: Row, cell: Row) -> str:
    ours, theirs, count = row["robust_acc"], cell["robust_acc"], int(cell["count"])
    interval = row.get("robust_acc_interval")
    points = f"{100 * (ours - theirs):+.1f}"
    if interval is None:
        return points
    low, high = of_unpaired(ours, interval, theirs, over_images(round(theirs * count), count))
    return f"{points}, {'not significant' if low <= 0 <= high else 'significant'}"
