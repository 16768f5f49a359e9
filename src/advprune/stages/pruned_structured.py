"""Make the stage ``pruned`` where filters or blocks go: score, choose, cut away, count."""

from pathlib import Path
from typing import Any

from torch import nn

from advprune.config.stage_options import Pruned
from advprune.distributed import collectives
from advprune.modules.filter_masks import kept_filters
from advprune.modules.scoring_pass import of_units
from advprune.modules.shrinking import Shrinking
from advprune.modules.training import RobustTraining
from advprune.modules.weights_io import plain_weights, save_weights
from advprune.pruners import filters as filter_choice
from advprune.pruners import masking, sparse_parent
from advprune.pruners.rounds import describe_rounds
from advprune.pruners.task import cumulative
from advprune.stages import checkpoint, pruning_phases, scores
from advprune.stages.checkpoint import taught
from advprune.stages.training_phase import RunContext, device_of
from advprune.store.stage import Stage
from advprune.surgery import structure


def make(stage: Stage[Pruned], folder: Path, parent: Path, where: RunContext) -> dict[str, Any]:
    """Shrink the dense network; write it with its structure."""
    options, pruner, facts = stage.options, stage.options.pruner, where.facts(training=True)
    net = pruning_phases.start(stage, folder, parent)
    shrinking = Shrinking(net, pruner, checkpoint.image_shape(stage))
    ratio_in_all = masking.target_ratio(net, options)
    ratios = cumulative(ratio_in_all, schedule=pruner.schedule, rounds=pruner.rounds)
    kept, rounds = list[int](), {"rounds": ratios}
    if checkpoint.is_foreign(stage):  # then it may have been sparse before
        facts |= sparse_parent.parent_facts(net, unit=pruner.unit)
    if pruner.process is not None:
        process = pruning_phases.process_of(net, options, ratios, shrinking)
        passes = pruning_phases.passes_of_process(options)
        masks, rounds = pruning_phases.learn(stage, net, process, folder, where, passes=passes)
        if process.prunes_filters:
            shrinking.keep(kept_filters(masks, shrinking.kept))
        else:
            learned = filter_choice.of_weight_scores(process.scores(), list(shrinking.kept))
            shrinking.cut(learned, ratio_in_all)
    else:
        passes = pruning_phases.passes_between_rounds(options)
        criteria, data = scores.criteria(stage, folder), options.training.data(batch_size=128)
        for number, ratio in enumerate(ratios):
            if number and passes:
                work = folder / "work" / f"round_{number}"
                shrinking.net = _between(stage, net, work, where, passes)
            shrinking.cut(of_units(next(criteria), shrinking, data, device_of(where)), ratio)
            kept.append(shrinking.parameters_left())
        rounds = describe_rounds(ratios, kept, [*[passes] * (len(ratios) - 1), 0])
    gone = (shrinking.kept, shrinking.blocks)
    collectives.agree("filters and blocks to remove", gone, "report this as a defect")
    collectives.rank_zero_continues()
    removed, earlier = shrinking.structure(), parent / structure.FILE
    if earlier.exists():
        removed = structure.load(earlier).then(removed)
    removed.save(folder / structure.FILE)
    save_weights(folder / "model.safetensors", plain_weights(shrinking.net))
    return facts | shrinking.counts(ratio_in_all) | rounds | {"ratio": ratio_in_all}


def _between(
    stage: Stage[Pruned], net: nn.Module, work: Path, where: RunContext, passes: int
) -> nn.Module:
    """Fine-tune between two rounds."""
    training = stage.options.training
    recipe = training.recipe
    assert recipe is not None
    module = RobustTraining(
        net,
        taught(training.objective.build(), stage, work.parents[1]),
        recipe,
        seed=training.seed,
        attack=training.validation_attack(),
    )
    pruning_phases.train(stage, module, work, where, passes=passes)
    return module.net.cpu().eval()
