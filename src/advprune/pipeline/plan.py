"""From resolved options to the stages they ask for, each with its key: no torch, so that the store is asked at once."""

from typing import Any

from advprune.config.attack_radius import evaluation_threat
from advprune.config.fingerprints import network_options, weights_identity, with_fingerprints
from advprune.config.phases import of_phase
from advprune.distributed import environment
from advprune.errors import UserError
from advprune.store.stage import Plan, Stage

#: What the training phases share.
CONTEXT = ("dataset", "objective", "threat", "select")
TRANSFER = "advprune.attacks.transfer.transfer"


def _dense(options: dict[str, Any], weights: str | None) -> Stage:
    model = {"model": network_options(options)}
    if weights is not None:
        return Stage("dense", model | weights_identity(weights))
    context = {name: options[name] for name in CONTEXT} | {
        "objective": of_phase(options["objective"], None)
    }
    context |= environment.identity(options.get("trainer"))
    return Stage(
        "dense", model | context | {"training": options["training"], "seed": options["seed"]}
    )


def _evaluated(options: dict[str, Any], parent: Stage, dense: Stage) -> Stage:
    own = {name: options[name] for name in ("dataset", "attack", "threat", "seed")}
    # said once, and in one way: the ball is in the key already
    if options["attack"].get("eps") is not None:
        attack = {name: value for name, value in options["attack"].items() if name != "eps"}
        own |= {"threat": evaluation_threat(options), "attack": attack}
    if options["attack"].get("_target_") != TRANSFER:
        return Stage("evaluated", own | _runs(options, parent), parent)
    # the frame's own keys shape the batches, and the batches what is drawn: with them, examples are
    # the white-box ones
    inner = options["attack"]["inner"] | {
        name: options["attack"][name] for name in ("images", "batch_size")
    }
    source, seed = _source(options, parent, dense)
    made = own | _runs(options, source) | {"attack": inner, "seed": seed}
    return Stage("evaluated", own | _runs(options, parent), parent, Stage("examples", made, source))


def _runs(options: dict[str, Any], network: Stage) -> dict[str, Any]:
    """What of a quantized network is judged, where it is not what is judged of it by default."""
    runs = options["quantizer"]["runs"] if network.kind == "quantized" else "fake_quant"
    return {} if runs == "fake_quant" else {"runs": runs}


def _source(options: dict[str, Any], target: Stage, dense: Stage) -> tuple[Stage, int]:
    """The network that a transfer attack's examples are made on, and the seed they are made with.

    The seed is the source's own and not the target's, so that all targets share one set of
    examples.
    """
    name, model, seed = (
        options.get(option) for option in ("source", "source_model", "source_seed")
    )
    own = options["seed"] if seed is None else seed
    if name == "self":
        if model is not None or seed is not None:
            raise UserError(
                "source=self is the network under attack; source_model and source_seed are of "
                "another one"
            )
        return target, own
    as_source = options | {"model": model or options["model"], "seed": own}
    if name is not None:
        return _dense(as_source, name), seed or 0
    return (dense if model is None and seed is None else _dense(as_source, None)), own


def _quantized(options: dict[str, Any], parent: Stage) -> Stage:
    """The parent's network in 8 bits; itself if no quantizer is chosen."""
    quantizer = options.get("quantizer") or {}
    if quantizer.get("_target_") is None:
        return parent
    named = ("dataset", "seed", *(CONTEXT if quantizer["epochs"] else ()))
    own = {name: options[name] for name in named} | {
        "quantizer": {k: v for k, v in quantizer.items() if k != "runs"}
    }
    if quantizer["epochs"]:
        rate = quantizer["learning_rate"] or options["finetune"]["learning_rate"]
        own["recipe"] = options["finetune"] | {"epochs": quantizer["epochs"], "learning_rate": rate}
        own |= {"objective": of_phase(options["objective"], "finetune")} | environment.identity(
            options.get("trainer")
        )
    return Stage("quantized", own, parent)


def plan_dense(options: dict[str, Any], *, weights: str | None = None) -> Plan:
    """A dense network, trained or read from ``weights``, and its evaluation."""
    options = with_fingerprints(options)
    dense = _dense(options, weights)
    final = _quantized(options, dense)
    return Plan(dense, final, _evaluated(options, dense, dense), _evaluated(options, final, dense))


def _phase(options: dict[str, Any], pruner: dict[str, Any]) -> dict[str, Any]:
    """The recipe that a pruner itself trains by, if it does: a learned one, or one that prunes in rounds."""
    if pruner["search"]:
        return {"search": options["search"]}
    rounds = pruner["schedule"] != "one_shot" and pruner.get("epochs_per_round") != 0
    return {"between": options["finetune"]} if rounds else {}


def plan_attack(options: dict[str, Any]) -> Plan:
    """What ``attack.py`` looks at: the network in the file ``checkpoint``, or what prune.py makes of the same words."""
    file = options.get("checkpoint")
    return plan_pruned(options) if file is None else plan_dense(options, weights=file)


def plan_pruned(options: dict[str, Any]) -> Plan:
    """dense → pruned → fine-tuned → attacked, and the dense parent attacked beside it."""
    options = with_fingerprints(options)
    dense = _dense(options, options["dense"])
    context = {name: options[name] for name in (*CONTEXT, "seed")}
    pruner = {name: value for name, value in options["pruner"].items() if name != "recovery"}
    phase = _phase(options, pruner)
    spread = environment.identity(options.get("trainer"))
    own = phase | (spread if phase else {}) | {"pruner": pruner}
    own |= {name: options.get(name) for name in ("ratio", "compression")}
    name = "search" if pruner["search"] else "finetune"
    pruned = Stage(
        "pruned", context | own | {"objective": of_phase(options["objective"], name)}, dense
    )
    recovery = options["pruner"]["recovery"]
    context["objective"] = of_phase(
        options["objective"], "finetune" if recovery == "finetune" else None
    )
    recipe = options["finetune"] if recovery == "finetune" else options["training"]
    tuned = Stage("finetuned", context | spread | {"recovery": recovery, "recipe": recipe}, pruned)
    final = _quantized(options, tuned)
    return Plan(dense, final, _evaluated(options, dense, dense), _evaluated(options, final, dense))
