"""Make the stage ``scores``: one pass of a criterion over the images, for all ratios and scopes."""

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from advprune.config.stage_options import Pruned, Scored
from advprune.distributed import collectives
from advprune.modules.kept_scores import KeptScores, kept
from advprune.modules.scoring_pass import of_units, of_weights
from advprune.modules.shrinking import Shrinking
from advprune.pruners.scoring import Criterion
from advprune.stages import checkpoint, pruning_phases
from advprune.stages.training_phase import RunContext, device_of
from advprune.store.stage import Stage

FILE = "scores.safetensors"


def make(
    stage: Stage[Scored], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Score the network that is to be pruned; write ``scores.safetensors``."""
    assert parent is not None
    collectives.rank_zero_continues()
    pruner, training = stage.options.pruner, stage.options.training
    assert pruner.criterion is not None
    net = pruning_phases.start(stage, folder, parent)
    device = device_of(where)
    criterion, data = pruner.criterion.build(), training.data(batch_size=128)
    with kept(net, folder / FILE) as scores:
        if pruner.unit is not None:
            shrinking = Shrinking(net, pruner, checkpoint.image_shape(stage))
            scores |= of_units(criterion, shrinking, data, device)
        else:
            scores |= of_weights(criterion, net.to(device), pruner, data, seed=training.seed)
    return {"scored": sum(score.numel() for score in scores.values())}


def criteria(stage: Stage[Pruned], folder: Path) -> Iterator[Criterion]:
    """Yield what scores each round of pruning; the first reads the pass that was made for it."""
    criterion = stage.options.pruner.criterion
    assert criterion is not None
    if stage.scores is not None:
        yield KeptScores(folder.parents[1] / stage.scores.kind / stage.scores.key / FILE)
    yield from repeat(criterion.build())
