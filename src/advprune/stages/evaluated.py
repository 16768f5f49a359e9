"""Make the stage ``evaluated``: attack every test image once, record each, and sum up."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune.config.smoke import DOUBT
from advprune.config.stage_options import Evaluated
from advprune.datasets.images import subset
from advprune.distributed import collectives
from advprune.distributed.sharding import Shard
from advprune.modules.evaluation import RobustEvaluation
from advprune.modules.examples import Examples
from advprune.modules.stopping import StopWhenAsked, interruptible
from advprune.report.data.consistency import refuse_contradictions
from advprune.report.data.evaluation_summary import sanity_warnings, summary, too_short
from advprune.runtime.safe_files import write_atomically
from advprune.stages import checkpoint, quantized
from advprune.stages.training_phase import RunContext, trainer
from advprune.store.stage import Stage
from advprune.surgery.cost import counted
from advprune.threat import Threat
from advprune.tracking.show_progress import shown_progress


def make(
    stage: Stage[Evaluated], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Attack the parent stage's network, or try another's examples on it; write the records."""
    assert parent is not None
    examples = None
    if stage.examples is not None:
        examples = Examples(
            folder.parents[1] / "examples" / stage.examples.key / "examples.safetensors"
        )
    columns, result = evaluate_network(
        stage, parent, folder, where, examples=examples, gallery=folder / "examples.png"
    )
    refuse_contradictions(columns, stage, folder, result["threat"])
    _write_records(folder / "records.parquet", columns)
    return result


def evaluate_network(
    stage: Stage[Evaluated], parent: Path, folder: Path, where: RunContext, **recording: Any
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Evaluate the parent stage's network; return the records' columns, and the result.

    Rank 0 alone returns from it.
    """
    options, attack = stage.options, stage.options.attack
    size, perturbation = attack.batch_size, attack.perturbation
    ball: Threat | None = None if perturbation else options.threat.build()
    shown, net = shown_progress(where.title, where.stage), _network(stage, parent)
    datamodule = options.dataset.build(seed=options.seed, batch_size=size)
    whole = datamodule.sizes["test"]
    indices = (
        None if attack.images is None else subset(whole, attack.images, option="attack.images")
    )
    module = RobustEvaluation(
        net,
        attack.build(),
        name=attack.method.name,
        threat=ball,
        parts=folder / "work",
        seed=options.seed,
        monitor=shown,
        images=whole if indices is None else len(indices),
        batch_size=size,
        **recording,
    )
    module.share, facts = Shard(collectives.rank(), collectives.size()), where.facts(training=False)
    run = trainer(where, [StopWhenAsked(), shown], enable_checkpointing=False)
    datamodule.to(run.strategy.root_device)
    loader = datamodule.test_dataloader(indices, size)
    collectives.check_same_work(datamodule)
    interruptible(run, lambda: run.test(module, dataloaders=loader, verbose=False))
    collectives.rank_zero_continues(after_all=True)  # not in a hook: a rank without images has none
    columns = module.records()
    result = summary(columns)
    return columns, facts | result | module.facts() | _counted(stage, net) | {
        "doubts": [DOUBT] * (options.debug is not None)
        + module.doubts
        + sanity_warnings(result, lets_through=lambda: _lets_through(stage, net))
        + too_short(attack.node),
        "of": whole,
        "batch_size": size,
        "perturbation": perturbation,
        "threat": {"norm": None, "eps": None}
        if ball is None
        else {"norm": ball.norm, "eps": ball.eps},
    }


def _in_eight_bits(stage: Stage[Evaluated]) -> bool:
    return stage.parent is not None and stage.parent.kind == "quantized"


def _network(stage: Stage[Evaluated], parent: Path) -> nn.Module:
    """Return the network to evaluate; of a quantized one the variant that ``runs`` names."""
    if _in_eight_bits(stage):
        assert stage.parent is not None
        return quantized.load(stage.parent, parent, runs=stage.options.runs)
    return checkpoint.load_network(stage, parent)


def _lets_through(stage: Stage[Evaluated], net: nn.Module) -> bool:
    """Return whether any weights carry a signal through; True of a network in 8 bits."""
    from advprune.pruners.synflow import lets_through

    return _in_eight_bits(stage) or lets_through(net, checkpoint.image_shape(stage))


def _counted(stage: Stage[Evaluated], net: nn.Module) -> dict[str, Any]:
    """Return what the network has and what of it is not zero; nothing of one in 8 bits."""
    if _in_eight_bits(stage):
        return {}
    return {"network": counted(net, checkpoint.image_shape(stage))}


def _write_records(path: Path, columns: dict[str, list[Any]]) -> None:
    import pandas as pd

    write_atomically(path, pd.DataFrame(columns).to_parquet(index=False))
