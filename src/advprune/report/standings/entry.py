"""Hold one method at one ratio: its pooled row, the runs behind it, and what a reader calls it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from advprune.report.data.differing_options import PERTURBED
from advprune.report.data.epochs import epochs_of_phases
from advprune.report.data.records import ImageOutcomes
from advprune.report.data.row import Row
from advprune.report.data.runs import Run

#: A run with the images that it has right.
Seen = tuple[Run, ImageOutcomes]


@dataclass(frozen=True)
class Entry:
    """One method at one ratio, over its seeds.

    Attributes:
        row: pooled over the seeds, see ``leaderboard_rows.entries``.
        seen: the runs with their outcomes, by seed.
    """

    row: Row
    seen: dict[int, Seen]

    @property
    def run(self) -> Run:
        """Return the run of the first seed; what is asked of it is the same for all."""
        return next(iter(self.seen.values()))[0]

    @property
    def pruner(self) -> str:
        """Return the member of the group ``pruner``, ``dense`` of a network that is not pruned."""
        return str(self.row["pruner"] or "dense").split(" ")[0]

    @property
    def layout(self) -> str:
        """Return how the ratio is spread over the layers; empty of a network that is not pruned.

        It is learned where the stage has ``keep_rates``: the scope says where they start.
        """
        pruned = self.run.stage("pruned")
        if pruned is None:
            return ""
        scope = str(pruned.options["pruner"]["scope"])
        return "learned" if "keep_rates" in pruned.result else scope

    @property
    def perturbed(self) -> tuple[str, ...]:
        """Return the adversarial perturbations of its training: AWP, S2AP, both or none."""
        names = (name for stage in self.run.line for name in _perturbations(stage.options))
        return tuple(dict.fromkeys(names))

    @property
    def name(self) -> str:
        """Return the pruner with the options that its command changed, the layout left out."""
        words = str(self.row["pruner"] or "dense").split(" ")
        kept = [word for word in words if not word.startswith(("scope=", "budget="))]
        return " ".join([*kept, *(f"+ {name}" for name in self.perturbed if name == "S2AP")])

    @property
    def epochs(self) -> list[float]:
        """Return the epochs of dense training, of pruning while training, and of recovery."""
        return epochs_of_phases(self.run)

    @property
    def seconds(self) -> float:
        """Return the seconds of all its stages for one network, the dense parent's included."""
        return float(self.row["seconds"]) / int(self.row["seeds"])

    @property
    def robust(self) -> float:
        """Return the mean robust accuracy, a share."""
        return float(self.row["robust_acc"])

    @property
    def table(self) -> str:
        """Return a text that is equal for entries that belong in one table, whatever the ratio."""
        of = ("dataset", "model", "unit", "ratio_of", "attack", "norm", "eps", "images")
        training = self.run.dense.options.get("objective")
        return json.dumps([*(self.row[name] for name in of), training, "AWP" in self.perturbed])


def _perturbations(options: dict[str, Any]) -> Iterator[str]:
    for phase in ("training", "search", "recipe"):
        perturb = (options.get(phase) or {}).get("perturb") or {}
        if perturb.get("what"):
            yield PERTURBED.get(perturb["what"], str(perturb["what"]))
