"""Define the steps of a pipeline: which options each stage is made from, and so its key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from advprune.config import stage_options
from advprune.config.fingerprints import weights_identity
from advprune.config.groups import Attack, Objective, Pruner, typed
from advprune.config.options import Options
from advprune.config.stage_options import Training, Weights
from advprune.errors import UserError
from advprune.modules.recipe import Recipe
from advprune.store.stage import Stage


@dataclass(frozen=True)
class Step:
    """Describe one step of a pipeline; ``a >> b`` makes the stage of ``b`` from that of ``a``.

    Attributes:
        describe: ``(options, parent) -> stage``; the root's parent is None, and a step that has
            nothing to do returns its parent.
        before: the step that comes first, if any.
    """

    describe: Callable[[Options, Any], Stage[Any]]
    before: "Step | None" = None

    def __rshift__(self, after: "Step") -> "Step":
        """Return the pipeline that goes on with ``after``."""
        return replace(after, before=self)

    def stage(self, options: Options, parent: Stage[Any] | None = None) -> Stage[Any]:
        """Return the last stage of the pipeline.

        Args:
            options: of the job.
            parent: what the first step starts from.
        """
        if self.before is not None:
            parent = self.before.stage(options, parent)
        return self.describe(options, parent)


@Step
def dense(options: Options, _: None) -> Stage[stage_options.Dense]:
    """Train the dense network, or read it from the file ``dense``."""
    if options.weights is not None:
        weights = Weights(
            options.weights,
            *weights_identity(options.weights),
            layout=options.layout,
            ratio=options.declared_ratio,
        )
        return Stage("dense", stage_options.Dense(model=options.model, weights=weights))
    if options.layout is not None:
        raise UserError(
            f"layout={options.layout} says how a file was saved, and there is none: give "
            "checkpoint=FILE or dense=FILE with it"
        )
    training = _training(options, None, options.training)
    return Stage("dense", stage_options.Dense(model=options.model, training=training))


@Step
def pruned(options: Options, parent: Stage[Any]) -> Stage[stage_options.Pruned]:
    """Remove the share ``ratio`` of the weights, filters or blocks."""
    pruner = options.pruner
    assert pruner is not None
    chosen = stage_options.Pruned(
        training=_pruning(options, pruner),
        pruner=pruner,
        ratio=options.ratio,
        compression=options.compression,
    )
    return Stage("pruned", chosen, parent, scores=_scores(chosen, parent))


@Step
def finetuned(options: Options, parent: Stage[Any]) -> Stage[Any]:
    """Recover what is left: fine-tune it; or train it as long as the dense network; or not."""
    assert options.pruner is not None
    recovery = options.pruner.recovery
    if recovery == "none":
        return parent
    if recovery == "finetune":
        training = _training(options, "finetune", options.finetune)
    else:
        training = _training(options, None, options.training)
    return Stage("finetuned", stage_options.Finetuned(training=training, recovery=recovery), parent)


@Step
def quantized(options: Options, parent: Stage[Any]) -> Stage[Any]:
    """Bring the network to 8 bits; nothing if no quantizer is chosen."""
    quantizer, tuning = options.quantizer, options.finetune
    if quantizer is None:
        return parent
    training = None
    if quantizer.epochs:
        rate = quantizer.learning_rate or tuning.learning_rate
        recipe = replace(tuning, epochs=quantizer.epochs, learning_rate=rate)
        training = _training(options, "finetune", recipe)
    chosen = stage_options.Quantized(
        dataset=options.dataset, seed=options.seed, quantizer=quantizer, training=training
    )
    return Stage("quantized", chosen, parent)


@Step
def evaluated(options: Options, parent: Stage[Any]) -> Stage[stage_options.Evaluated]:
    """Attack every test image; a transfer attack takes the examples of another network."""
    source_attack, examples = options.attack.source_attack, None
    if source_attack is not None:
        source, seed = _source(options, parent)
        examples = _attacked("examples", source_attack, options, source, seed)
    return _attacked("evaluated", options.attack, options, parent, options.seed, examples)


def _scores(pruned: stage_options.Pruned, parent: Stage[Any]) -> Stage[stage_options.Scored] | None:
    """Return the pass over the images that all ratios and scopes share, if there is one."""
    if not pruned.pruner.shares_scores:
        return None
    options = stage_options.Scored(training=pruned.training, pruner=pruned.pruner)
    return Stage("scores", options, parent)


def _pruning(options: Options, pruner: Pruner) -> Training:
    """Return the training of a pruner: of its process, or between the rounds of its criterion.

    A process that replaces the dense training, or the fine-tuning, has their epochs too, so that
    all pruners cost the same.
    """
    if pruner.process is None:
        return _training(options, "finetune", options.finetune if pruner.trains_between else None)
    untrained = pruner.start == "init"
    recipe, epochs = options.training if untrained else options.search, options.search.epochs
    epochs += options.training.epochs if untrained else 0
    epochs += options.finetune.epochs if pruner.recovery == "none" else 0
    phase: Literal["search"] | None = None if untrained else "search"
    training = _training(options, phase, replace(recipe, epochs=pruner.epochs or epochs))
    if pruner.objective is None:
        return training
    return replace(training, objective=typed(Objective, pruner.objective).in_phase(phase))


def _training(
    options: Options, phase: Literal["search", "finetune"] | None, recipe: Recipe | None
) -> Training:
    """Return what a phase of training reads; without a recipe nothing is trained."""
    return Training(
        dataset=options.dataset,
        objective=options.objective.in_phase(phase),
        threat=options.threat,
        select=options.select,
        seed=options.seed,
        recipe=recipe,
        identity={} if recipe is None else options.trainer.identity,
    )


def _attacked(
    kind: Literal["evaluated", "examples"],
    attack: Attack,
    options: Options,
    network: Stage[Any],
    seed: int,
    examples: Stage[Any] | None = None,
) -> Stage[stage_options.Evaluated]:
    """Return the stage that attacks a network; of a quantized one, the variant that runs."""
    chosen = stage_options.Evaluated(
        dataset=options.dataset,
        attack=attack,
        threat=options.evaluation_threat,
        seed=seed,
        runs=network.options.quantizer.runs if network.kind == "quantized" else "fake_quant",
        debug=options.debug,
    )
    return Stage(kind, chosen, network, examples)


def _source(options: Options, target: Stage[Any]) -> tuple[Stage[Any], int]:
    """Return the network on which a transfer attack's examples are made, and their seed.

    The seed is the source's own and not the target's, so that all targets share one set of
    examples.
    """
    model, own_seed = options.source_model, options.source_seed
    seed = options.seed if own_seed is None else own_seed
    if options.source == "self":
        if model is not None or own_seed is not None:
            raise UserError(
                "source=self is the network under attack; source_model and source_seed are of "
                "another one"
            )
        return target, seed
    another = options.of_parent(model=model or options.model, seed=seed, dense=options.source)
    if options.source is not None:
        return dense.stage(another), own_seed or 0
    if model is None and own_seed is None:
        return target.line[0], seed
    return dense.stage(another), seed
