"""A step in bf16 and a compiled one, of each objective, perturbation and process: near the plain one, and equal."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch
from processes import OBJECTIVE, convnet
from processes import batches as images_of_processes
from test_perturb import BALL, OBJECTIVES, batches, network_for
from test_process_conformance import EVERY, module_for
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from advprune.bounds.linear import crown_ibp as linear_bound
from advprune.distributed.environment import Trainer
from advprune.distributed.sharding import seed_step
from advprune.modules.perturb import Perturbation, targets_of
from advprune.modules.recipe import Perturbed
from advprune.objectives.crown_ibp import crown_ibp
from advprune.objectives.distillation import distillation
from advprune.objectives.mixtrain import mixtrain
from advprune.objectives.pwoa import pwoa
from advprune.objectives.smoothing import smoothing
from advprune.runtime.speed import Precision, autocast
from advprune.stages.training_phase import optimized_layout
from advprune.surgery.subnet import Subnet

BOUND = partial(linear_bound, threat=BALL)


def parent(x: Tensor) -> Tensor:
    """Logits of four classes, whatever they mean."""
    return x.flatten(1)[:, :4]


EVERY_OBJECTIVE: dict[str, Callable[[], Any]] = OBJECTIVES | {
    "crown_ibp": lambda: partial(crown_ibp, bound=BOUND),
    "mixtrain": lambda: partial(mixtrain, bound=BOUND, probability=1.0),
    "gaussian": lambda: partial(smoothing, form="gaussian"),
    "consistency": lambda: partial(smoothing, form="consistency", samples=2),
    "distillation": lambda: partial(distillation, teacher=parent),
    "pwoa": lambda: partial(pwoa, teacher=parent, image_weight=0.1, label_weight=0.1),
}
#: These read weights and not forwards.
BOUNDED = ("ibp", "crown_ibp", "mixtrain")
#: How far a gradient in bf16 may be from that of fp32, as a share of its length; 0.11 was the most.
APART = 0.2


def slopes(
    net: nn.Module,
    objective: Any,
    what: Perturbed | None = None,
    *,
    precision: Precision = "fp32",
    compiled: bool = False,
) -> list[Tensor]:
    """The loss of a step and its gradients, all in one list."""
    x, y = images_of_processes()[0] if isinstance(net, Subnet) else batches()[0]
    perturbation, seen = Perturbation(0.01), autocast(net, precision)

    def evaluate(goal: Any) -> Tensor:
        return goal(seen, x, y, progress=0.3)

    def refresh() -> None:
        if isinstance(net, Subnet):
            net.refresh()

    # traced, and run uncompiled: what a compiler makes of it takes minutes
    counted = CompileCounter()
    traced = mock.patch.object(torch, "compile", partial(torch.compile, backend=counted))
    ways = optimized_layout(net, Trainer(compile="default" if compiled else None), 8)
    with traced if compiled else nullcontext(), ways:
        net.train()
        refresh()
        seed_step(0, "train", 0)
        if what is None:
            loss = evaluate(objective)
        else:
            loss = perturbation.loss(evaluate, objective, net, targets_of(net, what), refresh)
        loss.backward()
        perturbation.restore()
    runs_network = getattr(objective, "func", None) is not crown_ibp
    assert bool(counted.frame_count) is (compiled and runs_network)
    return [loss.detach()] + [p.grad for p in net.parameters() if p.grad is not None]


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """The distance of two gradients as a share of the first's length."""
    a, b = (torch.cat([slope.flatten() for slope in slopes[1:]]) for slopes in (one, other))
    return float((a - b).norm() / a.norm())


def of_objective(name: str, what: Perturbed | None, **way: Any) -> list[Tensor]:
    net = network_for("ibp" if name in BOUNDED else name)
    return slopes(net, EVERY_OBJECTIVE[name](), what, **way)


PERTURBED = pytest.mark.parametrize("what", [None, Perturbed.weights])


@PERTURBED
@pytest.mark.parametrize("name", EVERY_OBJECTIVE)
def test_an_objective_in_bf16_has_nearly_the_loss_and_slope_of_fp32(
    name: str, what: Perturbed | None
) -> None:
    plain, coarse = (of_objective(name, what, precision=p) for p in ("fp32", "bf16"))
    assert float(coarse[0]) == pytest.approx(float(plain[0]), rel=0.03)
    assert apart(plain, coarse) < APART


@pytest.mark.slow
@PERTURBED
@pytest.mark.parametrize("name", EVERY_OBJECTIVE)
def test_an_objective_is_the_same_compiled(name: str, what: Perturbed | None) -> None:
    plain, compiled = (of_objective(name, what, compiled=c) for c in (False, True))
    assert len(plain) == len(compiled)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


def of_process(name: str, what: Perturbed | None = None, **way: Any) -> list[Tensor]:
    module = module_for(name, convnet())
    with torch.no_grad():
        module.process.start(module.net.net, images_of_processes())
        module.process.set_masks(module.process.masks())
    return slopes(module.net, OBJECTIVE, what, **way)


@EVERY
def test_a_process_in_bf16_has_nearly_the_loss_and_slope_of_fp32(name: str) -> None:
    plain, coarse = (of_process(name, precision=p) for p in ("fp32", "bf16"))
    assert float(coarse[0]) == pytest.approx(float(plain[0]), rel=0.03)
    assert apart(plain, coarse) < APART


@pytest.mark.slow
@EVERY
def test_a_process_is_the_same_compiled(name: str) -> None:
    plain, compiled = (of_process(name, compiled=c) for c in (False, True))
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_perturbed_scores_in_bf16_and_compiled() -> None:
    ways: list[dict[str, Any]] = [{}, {"precision": "bf16"}, {"compiled": True}]
    plain, coarse, compiled = (of_process("hydra", Perturbed.scores, **way) for way in ways)
    assert apart(plain, coarse) < APART
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)
