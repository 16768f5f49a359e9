"""Compute certified accuracy at any radius from per-image records, pooled over seeds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from advprune.errors import UserError
from advprune.report.data.intervals import over_images, over_seeds
from advprune.report.data.row import Row

#: What lines may differ in beside pruner and ratio; what all have in common is the title.
WORDS = ("dataset", "model", "objective", "attack", "norm")
STEP = 0.01


@dataclass
class Line:
    """One network's images, by seed.

    Attributes:
        pruner: empty of a dense network.
        ratio: the share removed; None of a dense network.
        words: see ``WORDS``.
        paths: of the records, by seed.
        radii: by seed, one an image: how far its right class is proved; negative where it is wrong
            or abstains.
        abstained: share of images, by seed.
    """

    pruner: str
    ratio: float | None
    words: tuple[str, ...]
    paths: dict[int, str] = field(default_factory=dict)
    radii: dict[int, list[float]] = field(default_factory=dict)
    abstained: dict[int, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the line's name for a legend."""
        return f"{self.pruner} {self.ratio:g}" if self.pruner else "dense"

    def certified(self, radius: float) -> list[float]:
        """Return for each seed the share of images whose right class is proved at this radius."""
        return [sum(r >= radius for r in radii) / len(radii) for radii in self.radii.values()]

    def interval(self, radius: float) -> list[float]:
        """Return the 95 % interval at this radius, over images and seeds."""
        counts = [(sum(r >= radius for r in radii), len(radii)) for radii in self.radii.values()]
        return over_seeds(
            [right / of for right, of in counts], [over_images(right, of) for right, of in counts]
        )

    def mean_radius(self) -> float:
        """Return the mean certified radius over images and seeds; uncertified ones count 0."""
        return mean(mean(max(r, 0.0) for r in radii) for radii in self.radii.values())


def lines(rows: Iterable[Row]) -> list[Line]:
    """Return the networks of these jobs, dense parents first, with what the store has of each.

    Raises:
        UserError: if none was certified, two evaluations have one name, or records are not where
            the table says.
    """
    by_name: dict[tuple[Any, ...], Line] = {}
    for row in rows:
        if row.get("certified_acc") is None:
            continue
        words = tuple(
            str("l2" if name == "norm" and row.get("smoothed") else row[name] or "")
            for name in WORDS
        )
        if "dense_records" not in row:
            raise UserError(
                "a table of an older version: give its grid's command again, "
                "which reuses everything and writes the table anew"
            )
        networks = [("", None, row["dense_records"])]
        if row.get("pruner") is not None:
            networks.append(
                (row["pruner"], row["ratio"], f"{row['files']['evaluated']}/records.parquet")
            )
        for pruner, ratio, path in networks:
            line = by_name.setdefault((words, pruner, ratio), Line(pruner, ratio, words))
            _read(line, row["seed"], path)
    read = [line for line in by_name.values() if line.radii]
    if not read:
        raise UserError(
            "no job of these tables was certified: "
            "give one of a grid run with attack=certify_smoothing"
        )
    return sorted(read, key=lambda line: (line.words, line.pruner, line.ratio or 0.0))


def _read(line: Line, seed: int, path: str) -> None:
    import pandas as pd

    if line.paths.setdefault(seed, path) != path:
        raise UserError(
            f"two evaluations of {line.name}, seed {seed}: "
            f"{line.paths[seed]} and {path}; draw them apart"
        )
    if seed in line.radii:
        return
    if not Path(path).exists():
        raise UserError(
            f"{path} is not there: give this command from the folder that the grid was run in"
        )
    records = pd.read_parquet(path)
    right = (records["certified_pred"] == records["label"]) & ~records["abstained"]
    line.radii[seed] = records["radius"].where(right, -1.0).tolist()
    line.abstained[seed] = float(records["abstained"].mean())


def titles(networks: list[Line]) -> tuple[str, dict[int, str]]:
    """Return the words that all lines share, and each line's name with those that they do not."""
    same = [len({line.words[i] for line in networks}) == 1 for i in range(len(WORDS))]
    title = ", ".join(word for word, shared in zip(networks[0].words, same, strict=True) if shared)
    names = {
        id(line): " ".join(
            [line.name, *(w for w, shared in zip(line.words, same, strict=True) if not shared)]
        )
        for line in networks
    }
    return title, names


def points(networks: list[Line]) -> list[dict[str, Any]]:
    """Return a row for each line and radius: mean share, 95 % interval, range over seeds."""
    names, last = (
        titles(networks)[1],
        max(max(radii) for line in networks for radii in line.radii.values()),
    )
    grid = [round(STEP * i, 6) for i in range(int(last / STEP) + 2)]
    return [
        {
            "line": names[id(line)],
            "pruner": line.pruner or "dense",
            "ratio": line.ratio,
            "radius": radius,
            "certified_acc": mean(line.certified(radius)),
            "low": max(line.interval(radius)[0], 0.0),
            "high": min(line.interval(radius)[1], 1.0),
            "least": min(line.certified(radius)),
            "most": max(line.certified(radius)),
            "seeds": len(line.radii),
            "images": len(next(iter(line.radii.values()))),
        }
        for line in networks
        for radius in grid
    ]
