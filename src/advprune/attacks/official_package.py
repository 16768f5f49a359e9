"""Run the official AutoAttack, the package pyautoattack."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyautoattack
import torch
from torch import Tensor, nn

from advprune.attacks.watched import Watched
from advprune.logits import is_right
from advprune.threat import Threat


def run_package(
    package: pyautoattack.AutoAttack, parts: list[str], watched: Watched, y: Tensor
) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Run pyautoattack part by part; return x_adv, and who is right at first and after each."""
    x = watched.x
    x_adv = x.clone(memory_format=torch.contiguous_format)
    with torch.no_grad():
        right = is_right(watched.model(x), y)
    steps, expected = [("clean", right.clone())], _passes(package)
    for part in parts:
        watched.begin_part(part, expected[part])
        left = right.nonzero().squeeze(1)
        if len(left):
            package.attacks_to_run = [part]
            points, label = package.run_standard_evaluation(x_adv[left], y[left], batch_size=len(x))
            finite = points.flatten(1).isfinite().all(1)  # NaN gradients may lead to NaN pixels
            x_adv[left[finite]] = points[finite]
            right[left[finite]] = label[finite] == y[left[finite]]
            not_finite = watched.lost & right
            x_adv[not_finite], right[not_finite] = watched.points[not_finite], False
        steps.append((part, right.clone()))
        watched.monitor.finish_part(part, right)
    return x_adv, steps


def _passes(package: pyautoattack.AutoAttack) -> dict[str, int]:
    """Return how many forward passes each part takes that fools no image, as counted, roughly."""
    apgd, targeted, fab = package.apgd, package.apgd_targeted, package.fab
    return {
        "apgd-ce": 105 * apgd.n_restarts,
        "apgd-dlr": 105 * apgd.n_restarts,
        "apgd-t": 104 * targeted.n_restarts * targeted.n_target_classes,
        "fab": 204 * fab.n_restarts,
        "fab-t": 204 * fab.n_target_classes,
        "square": package.square.n_queries,
    }


def official_package(
    model: nn.Module,
    device: torch.device,
    threat: Threat,
    version: str,
    attacks: Sequence[str] | None,
    seed: int,
) -> pyautoattack.AutoAttack:
    """Return the package's attack for model and threat; ``attacks`` None takes the version's."""
    logger = logging.getLogger("auto-attack")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it would list its own options
    try:
        return pyautoattack.AutoAttack(
            model,
            attacks=list(attacks) if attacks else None,
            device=device,
            eps=threat.eps,
            norm=threat.norm.capitalize(),
            seed=seed,
            version=version,
        )
    finally:
        logger.setLevel(level)


@contextmanager
def preserve_tracer() -> Iterator[None]:
    """Restore the tracer of a debugger or of coverage, which pyautoattack removes."""
    tracer = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(tracer)
