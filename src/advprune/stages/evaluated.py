"""Make the stage ``evaluated``: attack every test image once, record each, and sum up."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

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
    examples, source = None, stage.examples
    if source is not None:
        examples = Examples(folder.parents[1] / source.kind / source.key / "examples.safetensors")
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
    ball: Threat | None = None if attack.perturbation else options.threat.build()
    shown, net = shown_progress(where.title, where.stage), _network(stage, parent)
    data = options.dataset.build(seed=options.seed, batch_size=attack.batch_size)
    whole = data.sizes["test"]
    indices = None if attack.images is None else subset(whole, attack.images)
    module = RobustEvaluation(
        net,
        attack.build(),
        name=attack.method.name,
        threat=ball,
        parts=folder / "work",
        seed=options.seed,
        monitor=shown,
        images=whole if indices is None else len(indices),
        batch_size=attack.batch_size,
        **recording,
    )
    facts = where.facts(training=False)
    columns = _attacked(module, data, indices, shown, where)
    result = summary(columns)
    return columns, facts | result | module.facts() | _counted(stage, net) | {
        "doubts": [DOUBT] * (options.debug is not None)
        + module.doubts
        + sanity_warnings(result, lets_through=lambda: _lets_through(stage, net))
        + too_short(attack.node),
        "of": whole,
        "batch_size": attack.batch_size,
        "perturbation": attack.perturbation,
        "threat": {name: getattr(ball, name, None) for name in ("norm", "eps")},
    }


def _attacked(
    module: RobustEvaluation, data: Any, indices: Tensor | None, shown: Callback, where: RunContext
) -> dict[str, list[Any]]:
    """Attack these test images on all ranks; return the records on rank 0, which goes on alone."""
    module.share = Shard(collectives.rank(), collectives.size())
    run = trainer(where, [StopWhenAsked(), shown], enable_checkpointing=False)
    loader = data.to(run.strategy.root_device).test_dataloader(indices, module.batch_size)
    collectives.check_same_work(data)
    interruptible(run, lambda: run.test(module, dataloaders=loader, verbose=False))
    collectives.rank_zero_continues(after_all=True)  # not in a hook: a rank without images has none
    return module.records()


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
