"""The stage ``evaluated``: every test image attacked once, a record each, and the shares with their intervals."""

import math
from pathlib import Path
from typing import Any

from torch import nn

from advprune import ranks
from advprune.atomic import replace
from advprune.datasets.splits import subset
from advprune.modules.evaluation import RobustEvaluation
from advprune.modules.examples import Examples
from advprune.rows import Share
from advprune.stages import parts, quantized, saved
from advprune.stages.contradictions import refuse_contradictions
from advprune.stages.fit import Where, interruptible, same_everywhere, trainer
from advprune.stages.plan import Stage
from advprune.stages.verdicts import summary, suspicions
from advprune.stages.weak_attacks import too_short


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Attack the parent stage's network, or judge it on another's examples; write ``records.parquet``."""
    assert parent is not None
    given = None
    if stage.examples is not None:
        given = Examples(folder.parents[1] / "examples" / stage.examples.key / "examples.safetensors")
    columns, told = judged(stage, parent, folder, where, examples=given, gallery=folder / "examples.png")
    refuse_contradictions(columns, stage, folder, told["threat"])
    _write_records(folder / "records.parquet", columns)
    return told


def judged(
    stage: Stage, parent: Path, folder: Path, where: Where, **options: Any
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Run the parent stage's network through the evaluation: the records' columns, and what they say.

    Rank 0 alone comes back from it.
    """
    attack = stage.options["attack"]
    size, own = int(attack["batch_size"]), attack.get("perturbation")
    ball = None if own else parts.threat(stage.options)
    module = RobustEvaluation(
        _network(stage, parent), parts.attack(stage.options), name=attack["_target_"].rsplit(".", 1)[-1],
        threat=ball, parts=folder / "work", seed=stage.options["seed"], **options,
    )  # fmt: skip
    module.share, facts = Share(ranks.rank(), ranks.size()), where.facts(training=False)
    run = trainer(where, f"{stage.kind} {stage.key}", enable_checkpointing=False)
    datamodule = parts.data(stage.options, batch_size=size).to(run.strategy.root_device)
    whole = datamodule.sizes["test"]
    indices = None if attack.get("images") is None else subset(whole, attack["images"], option="attack.images")
    loader = datamodule.test_dataloader(indices, size)
    same_everywhere(datamodule)
    interruptible(run, lambda: run.test(module, dataloaders=loader, verbose=False))
    ranks.only_first()
    columns = module.records(math.ceil((whole if indices is None else len(indices)) / size))
    result = summary(columns)
    return columns, facts | result | module.facts() | {
        "doubts": module.doubts + suspicions(result) + too_short(attack),
        "of": whole, "batch_size": size, "perturbation": own,
        "threat": {"norm": None, "eps": None} if ball is None else {"norm": ball.norm, "eps": ball.eps},
    }  # fmt: skip


def _network(stage: Stage, parent: Path) -> nn.Module:
    """What is judged: the parent stage's network, of a quantized one the face that ``runs`` names."""
    if stage.parent is not None and stage.parent.kind == "quantized":
        return quantized.load(stage.parent, parent, runs=stage.options.get("runs", "fake_quant"))
    return saved.load(stage, parent)


def _write_records(path: Path, columns: dict[str, list[Any]]) -> None:
    import pandas as pd

    replace(path, pd.DataFrame(columns).to_parquet(index=False))
