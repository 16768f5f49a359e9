"""Plan the stages of a job.

    train.py     dense >> quantized >> evaluated
    prune.py     dense >> pruned >> finetuned >> quantized >> evaluated
    attack.py    what prune.py makes of the same words; or, of weights in a file, what train.py does

The dense network is evaluated beside the final network. ``pipeline/steps.py`` says which options
each stage is made from, ``pipeline/executor.py`` which function makes it. Nothing here imports
torch, so that the store is asked at once.
"""

from advprune.config.options import Options
from advprune.errors import UserError
from advprune.pipeline.steps import Step, dense, evaluated, finetuned, pruned, quantized
from advprune.store.stage import Plan

TRAIN = quantized >> evaluated
PRUNE = pruned >> finetuned >> quantized >> evaluated


def plan_dense(options: Options) -> Plan:
    """Plan a dense network and its evaluation."""
    return _plan(TRAIN, options, options)


def plan_pruned(options: Options) -> Plan:
    """Plan a pruned network and its evaluation, and that of its dense parent."""
    return _plan(PRUNE, options, options.of_pruned())


def plan_attack(options: Options) -> Plan:
    """Plan the evaluation of the weights in ``checkpoint``, or of what prune.py makes.

    With ``stage``, it is the evaluation of that stage of the plan.
    """
    plan = plan_dense(options) if options.checkpoint is not None else plan_pruned(options)
    return plan if options.stage is None else _of_stage(plan, options, options.stage)


def _of_stage(plan: Plan, options: Options, key: str) -> Plan:
    """Plan the evaluation of one stage of a plan, by its key.

    Raises:
        UserError: if the options give no such stage: nothing else is attacked in its place.
    """
    network = next((stage for stage in plan.final.line if stage.key == key), None)
    if network is None:
        raise UserError(
            f"these options do not make the network {key}: a word beside from= changes it, or this "
            "version of advprune, or a file that it reads, is another one than it was made with; "
            f"attack its weights, checkpoint={options.store}/…/{key}/model.safetensors"
        )
    return Plan(plan.dense, network, plan.evaluated_dense, evaluated.stage(options, network))


def _plan(pipeline: Step, options: Options, of_root: Options) -> Plan:
    parent = dense.stage(options)
    root = parent if of_root is options else dense.stage(of_root)
    last = pipeline.stage(options, root)
    assert last.parent is not None
    return Plan(parent, last.parent, evaluated.stage(options, parent), last)
