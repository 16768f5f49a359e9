"""Write networks as RobustBench takes them: one record of its ``model_info`` for each.

Croce et al. 2021, https://arxiv.org/abs/2010.09670. What only authors know (title, link, venue,
the number that their paper reports) is null, as in the records that RobustBench's own evaluation
writes.
"""

from dataclasses import asdict, dataclass
from typing import Any

from advprune.report.data.attack_names import threat_text
from advprune.report.data.leaderboard_rows import method_at_ratio
from advprune.report.data.row import Row
from advprune.report.data.runs import Run
from advprune.report.plots.style import slug
from advprune.report.table.job_row import strength

#: How RobustBench calls the threats that it has a leaderboard of.
THREATS = {"linf": "Linf", "l2": "L2"}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One record: accuracies in percent as text, eps as papers write it.

    Attributes:
        link: of the paper.
        name: title of the paper.
        authors: of the paper.
        additional_data: whether other images than the data set's were trained on; None: not known.
        number_forward_passes: for one prediction.
        dataset: in RobustBench's spelling, which is ours.
        venue: of the paper, with its year.
        architecture: the network, and what pruned it.
        eps: of the ball, in pixels of [0, 1].
        clean_acc: percent.
        reported: robust accuracy that the paper reports, percent.
        autoattack_acc: robust accuracy under the standard version of AutoAttack, percent.
        footnote: how the network was made and measured.
        unreliable: whether the evaluation found something to doubt.
    """

    link: str | None = None
    name: str | None = None
    authors: str | None = None
    additional_data: bool | None
    number_forward_passes: int = 1
    dataset: str
    venue: str | None = None
    architecture: str
    eps: str
    clean_acc: str
    reported: str | None = None
    autoattack_acc: str
    footnote: str
    unreliable: bool


def model_infos(rows: list[Row], runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """Return the records by the names of their files, one for each seed.

    Only networks all of whose test images met the whole standard version of AutoAttack, in a ball
    that RobustBench has a leaderboard of, have one.

    Args:
        rows: of the leaderboard.
        runs: by the key of the evaluation.
    """
    return {
        f"{slug(' '.join((_dataset(row), THREATS[row['norm']], name)))}-seed-{seed}.json": asdict(
            _model_info(row, runs[key], name)
        )
        for row in rows
        if _listed(row)
        for name in [_architecture(row)]
        for seed, key in row["runs"].items()
    }


def _listed(row: Row) -> bool:
    return (
        strength(row) == "AutoAttack"
        and not row.get("weaker")
        and row["norm"] in THREATS
        and row["images"] == row["of"]
    )


def _architecture(row: Row) -> str:
    return f"{row['model']}, {method_at_ratio(row)}"


def _dataset(row: Row) -> str:
    return str(row["dataset"]).split(" ")[0]


def _model_info(row: Row, run: Run, architecture: str) -> ModelInfo:
    after, doubts = run.evaluated.result, row.get("doubts") or []
    trained = [f"trained with {row['objective']}"] if row["objective"] else []
    command = row.get("commands", {}).get(run.seed)
    notes = [*trained, f"sparsity {row['sparsity']:.4g}", f"{after['images']} images", *doubts]
    return ModelInfo(
        additional_data=_additional_data(run),
        dataset=_dataset(row),
        architecture=architecture,
        eps=threat_text(row).split(" ")[1],
        clean_acc=_two_digits(after["clean_acc"]),
        autoattack_acc=_two_digits(after["robust_acc"]),
        footnote="; ".join([*notes, *([command] if command else [])]),
        unreliable=bool(doubts),
    )


def _additional_data(run: Run) -> bool | None:
    """Return whether the dense network saw extra images; None of one that came from a file."""
    if run.dense.result.get("foreign"):
        return None
    return bool((run.dense.options.get("dataset") or {}).get("extra"))


def _two_digits(share: float) -> str:
    return f"{100 * share:.2f}"
