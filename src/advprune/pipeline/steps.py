"""Define the steps of a pipeline: which options each stage is made from, and so its key."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from advprune.config.attack_radius import evaluation_threat
from advprune.config.fingerprints import network_options, weights_identity
from advprune.config.phases import of_phase
from advprune.distributed import environment
from advprune.errors import UserError
from advprune.store.stage import Stage

Options = dict[str, Any]
#: What the training phases share.
CONTEXT = ("dataset", "objective", "threat", "select")
TRANSFER = "advprune.attacks.transfer.transfer"


@dataclass(frozen=True)
class Step:
    """Describe one step of a pipeline; ``a >> b`` makes the stage of ``b`` from that of ``a``.

    Attributes:
        describe: ``(options, parent) -> stage``; the root's parent is None, and a step that has
            nothing to do returns its parent.
        before: the step that comes first, if any.
    """

    describe: Callable[[Options, Any], Stage]
    before: "Step | None" = None

    def __rshift__(self, after: "Step") -> "Step":
        """Return the pipeline that goes on with ``after``."""
        return replace(after, before=self)

    def stage(self, options: Options, parent: Stage | None = None) -> Stage:
        """Return the last stage of the pipeline.

        Args:
            options: of the job, resolved, with the fingerprints of the user's files.
            parent: what the first step starts from.
        """
        if self.before is not None:
            parent = self.before.stage(options, parent)
        return self.describe(options, parent)


@Step
def dense(options: Options, _: None) -> Stage:
    """Train the dense network, or read it from the file ``dense``."""
    return _dense(options, options.get("dense"))


@Step
def pruned(options: Options, parent: Stage) -> Stage:
    """Remove the share ``ratio`` of the weights, filters or blocks."""
    pruner = {name: value for name, value in options["pruner"].items() if name != "recovery"}
    recipe = _pruning_recipe(options, pruner)
    phase = of_phase(options["objective"], "search" if pruner["search"] else "finetune")
    stage = {name: options[name] for name in (*CONTEXT, "seed")}
    stage |= recipe | (environment.identity(options.get("trainer")) if recipe else {})
    stage |= {"pruner": pruner, "objective": phase}
    stage |= {name: options.get(name) for name in ("ratio", "compression")}
    return Stage("pruned", stage, parent)


@Step
def finetuned(options: Options, parent: Stage) -> Stage:
    """Recover what is left: fine-tune it, or train it from early weights or from scratch."""
    recovery = options["pruner"]["recovery"]
    tuning = recovery == "finetune"
    stage = {name: options[name] for name in (*CONTEXT, "seed")}
    stage |= environment.identity(options.get("trainer"))
    stage["objective"] = of_phase(options["objective"], "finetune" if tuning else None)
    stage["recipe"] = options["finetune" if tuning else "training"]
    return Stage("finetuned", stage | {"recovery": recovery}, parent)


@Step
def quantized(options: Options, parent: Stage) -> Stage:
    """Bring the network to 8 bits; nothing if no quantizer is chosen."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None:
        return parent
    names = ("dataset", "seed", *(CONTEXT if quantizer["epochs"] else ()))
    stage = {name: options[name] for name in names}
    stage["quantizer"] = {name: value for name, value in quantizer.items() if name != "runs"}
    if quantizer["epochs"]:
        rate = quantizer["learning_rate"] or options["finetune"]["learning_rate"]
        budget = {"epochs": quantizer["epochs"], "learning_rate": rate}
        stage["recipe"] = options["finetune"] | budget
        stage["objective"] = of_phase(options["objective"], "finetune")
        stage |= environment.identity(options.get("trainer"))
    return Stage("quantized", stage, parent)


@Step
def evaluated(options: Options, parent: Stage) -> Stage:
    """Attack every test image; a transfer attack takes the examples of another network."""
    attack = options["attack"]
    stage = {name: options[name] for name in ("dataset", "attack", "threat", "seed")}
    if attack.get("eps") is not None:  # in one place only: the threat is in the key
        others = {name: value for name, value in attack.items() if name != "eps"}
        stage |= {"threat": evaluation_threat(options), "attack": others}
    if attack.get("_target_") != TRANSFER:
        return Stage("evaluated", stage | _runs(options, parent), parent)
    # the harness's own keys shape the batches, and the batches what is drawn: with them, examples
    # are the white-box ones
    inner = attack["inner"] | {name: attack[name] for name in ("images", "batch_size")}
    source, seed = _source(options, parent)
    examples = stage | _runs(options, source) | {"attack": inner, "seed": seed}
    return Stage(
        "evaluated", stage | _runs(options, parent), parent, Stage("examples", examples, source)
    )


def _dense(options: Options, weights: str | None) -> Stage:
    model = {"model": network_options(options)}
    if weights is not None:
        return Stage("dense", model | weights_identity(weights))
    stage = model | {name: options[name] for name in (*CONTEXT, "training", "seed")}
    stage["objective"] = of_phase(options["objective"], None)
    return Stage("dense", stage | environment.identity(options.get("trainer")))


def _pruning_recipe(options: Options, pruner: Options) -> Options:
    """Return the recipe of a pruner that trains: one that learns, or that prunes in rounds."""
    if pruner["search"]:
        return {"search": options["search"]}
    rounds = pruner["schedule"] != "one_shot" and pruner.get("epochs_per_round") != 0
    return {"between": options["finetune"]} if rounds else {}


def _runs(options: Options, network: Stage) -> Options:
    """Return which variant of a quantized network is evaluated, unless it is the default."""
    runs = options["quantizer"]["runs"] if network.kind == "quantized" else "fake_quant"
    return {} if runs == "fake_quant" else {"runs": runs}


def _source(options: Options, target: Stage) -> tuple[Stage, int]:
    """Return the network on which a transfer attack's examples are made, and their seed.

    The seed is the source's own and not the target's, so that all targets share one set of
    examples.
    """
    name, model, source_seed = (
        options.get(option) for option in ("source", "source_model", "source_seed")
    )
    seed = options["seed"] if source_seed is None else source_seed
    if name == "self":
        if model is not None or source_seed is not None:
            raise UserError(
                "source=self is the network under attack; source_model and source_seed are of "
                "another one"
            )
        return target, seed
    as_source = options | {"model": model or options["model"], "seed": seed}
    if name is not None:
        return _dense(as_source, name), source_seed or 0
    if model is None and source_seed is None:
        return target.line()[0], seed
    return _dense(as_source, None), seed
