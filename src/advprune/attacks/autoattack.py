"""AutoAttack (Croce and Hein 2020, https://arxiv.org/abs/2003.01690): the official evaluation, by pyautoattack 0.2.0.

A thin adapter. Verdicts are those of one ``run_standard_evaluation``; its sub-attacks are run one by one, each on the
images still standing, so that it is known which of them broke what.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pyautoattack
import torch
from pyautoattack.checks import check_square_sr
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.frozen import frozen, rng_kept
from advprune.threat import Threat

VERSIONS = ("standard", "plus", "rand", "custom")
ATTACKS = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}  # the DLR losses look at the third and the fourth logit


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    version: Literal["standard", "plus", "rand", "custom"] = "standard",
    attacks: list[str] | None = None,
    seed: int = 0,
    trail: list[tuple[str, Tensor]] | None = None,
) -> Tensor:
    """Attack with each part in turn the images that the parts before it left right.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), K >= 4 for ``standard``; in eval mode, left as found.
        x: clean images (N, C, H, W), float32 in [0, 1]. The whole batch is given on as one: its size is part of the
            result, so record it.
        y: labels (N,) int64.
        threat: the ball.
        version: ``standard`` is the one to publish; ``rand`` is for randomised models; ``custom`` runs ``attacks``
            with pyautoattack's own constants for them (5 restarts of apgd and fab).
        attacks: for ``custom`` only: apgd-ce, apgd-dlr, fab, square, apgd-t, fab-t.
        seed: of every part; torch's global generators are not touched.
        trail: a list of the caller's to which ("clean", flags) and then (part, flags) are appended in the order they
            ran; flags (N,) bool say which images are still right. The mean of a row's flags is its robust accuracy.
    Returns:
        x_adv (N, C, H, W); an image that stands, or was wrong from the start, comes back clean.
    Raises:
        UserError: for an unknown version or part, parts without ``custom``, input that is not float32, or too few
            classes.
    """
    _check_options(version, attacks, x)
    x_adv, trail = x.detach().clone(memory_format=torch.contiguous_format), trail if trail is not None else []
    with frozen(model), rng_kept(), _tracing_kept():
        with torch.no_grad():
            logits = model(x)
        standing = logits.argmax(1) == y
        engine = _engine(model, x.device, threat, version, attacks, seed)
        parts = list(engine.attacks_to_run)
        _check_classes(engine, parts, logits.shape[1])
        trail.append(("clean", standing.clone()))
        for part in parts:
            left = standing.nonzero().squeeze(1)
            if len(left):
                engine.attacks_to_run = [part]
                x_adv[left], label = engine.run_standard_evaluation(x_adv[left], y[left], batch_size=len(x))
                standing[left] = label == y[left]
            trail.append((part, standing.clone()))
    # Alone, the part cannot notice that it did better than the others, which is a sign of masked gradients.
    shares = {name: flags.float().mean().item() for name, flags in trail[-len(parts) - 1 :]}
    check_square_sr(shares, logger=logging.getLogger("auto-attack"))
    return x_adv


def _engine(
    model: nn.Module, device: torch.device, threat: Threat, version: str, attacks: list[str] | None, seed: int
) -> pyautoattack.AutoAttack:
    return pyautoattack.AutoAttack(
        model,
        attacks=list(attacks) if attacks else None,
        device=device,
        eps=threat.eps,
        norm=threat.norm.capitalize(),
        seed=seed,
        version=version,
    )


def _check_options(version: str, attacks: list[str] | None, x: Tensor) -> None:
    if version not in VERSIONS:
        raise UserError(f"autoattack: version={version!r} is not one of {', '.join(VERSIONS)}")
    if (version == "custom") != bool(attacks):
        raise UserError(
            f"autoattack: version={version} with attacks={attacks}; the list goes with version=custom and only with it"
        )
    unknown = [name for name in attacks or [] if name not in ATTACKS]
    if unknown:
        raise UserError(f"autoattack: {', '.join(unknown)} is not one of {', '.join(ATTACKS)}")
    if x.dtype != torch.float32:
        raise UserError(f"autoattack takes float32 images, not {x.dtype}; convert model and images with .float()")


def _check_classes(engine: pyautoattack.AutoAttack, parts: list[str], classes: int) -> None:
    """Refuse what would fail deep inside, and aim at no more wrong classes than there are."""
    least = max(LEAST_CLASSES.get(part, 2) for part in parts)
    if classes < least:
        raise UserError(
            f"autoattack with {', '.join(parts)} needs at least {least} classes, the model has {classes}; use"
            " attack.version=custom attack.attacks=[apgd-ce,fab-t,square]"
        )
    for targeted in (engine.apgd_targeted, engine.fab):
        targeted.n_target_classes = min(targeted.n_target_classes, classes - 1)


@contextmanager
def _tracing_kept() -> Iterator[None]:
    """pyautoattack ends the tracing of whoever debugs or measures coverage."""
    tracer = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(tracer)
