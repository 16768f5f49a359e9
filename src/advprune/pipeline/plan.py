"""Plan the stages of a job.

    train.py     dense >> quantized >> evaluated
    prune.py     dense >> pruned >> finetuned >> quantized >> evaluated
    attack.py    what prune.py makes of the same words; or, of weights in a file, what train.py does

The dense parent is evaluated beside the final network. ``pipeline/steps.py`` says which options
each stage is made from, ``pipeline/executor.py`` which function makes it. Nothing here imports
torch, so that the store is asked at once.
"""

from typing import Any

from advprune.config.fingerprints import with_fingerprints
from advprune.pipeline.steps import Step, dense, evaluated, finetuned, pruned, quantized
from advprune.store.stage import Plan

TRAIN = dense >> quantized >> evaluated
PRUNE = dense >> pruned >> finetuned >> quantized >> evaluated


def plan_dense(options: dict[str, Any], *, weights: str | None = None) -> Plan:
    """Plan a dense network and its evaluation.

    Args:
        options: resolved.
        weights: the file that the network is read from; None trains it.
    """
    return _plan(TRAIN, options | {"dense": weights})


def plan_pruned(options: dict[str, Any]) -> Plan:
    """Plan a pruned network and its evaluation, and that of its dense parent."""
    return _plan(PRUNE, options)


def plan_attack(options: dict[str, Any]) -> Plan:
    """Plan the evaluation of the weights in ``checkpoint``, or of what prune.py makes."""
    weights = options.get("checkpoint")
    return plan_pruned(options) if weights is None else plan_dense(options, weights=weights)


def _plan(pipeline: Step, options: dict[str, Any]) -> Plan:
    options = with_fingerprints(options)
    last = pipeline.stage(options)
    assert last.parent is not None
    parent = last.parent.line()[0]
    return Plan(parent, last.parent, evaluated.stage(options, parent), last)
