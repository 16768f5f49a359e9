"""AutoAttack (Croce and Hein 2020, https://arxiv.org/abs/2003.01690), by pyautoattack 0.2.0.

A thin adapter of the official evaluation. Results are those of one ``run_standard_evaluation``; its
sub-attacks are run one by one, each on the images that are still right, so that it is known which
of them fooled which image. ``engine=fast`` runs the same parts in our own code.
"""

import importlib.metadata
import logging
from pathlib import Path
from typing import Any, Literal

import pyautoattack
import torch
from pyautoattack.checks import check_square_sr
from torch import Tensor, nn

from advprune.attacks import audit as audits
from advprune.attacks.autoattack_options import (
    Part,
    check_classes,
    check_engine,
    check_options,
)
from advprune.attacks.fast.engine import Engine
from advprune.attacks.monitor import AttackMonitor
from advprune.attacks.official_package import official_package, preserve_tracer, run_package
from advprune.attacks.per_image_rng import places
from advprune.attacks.watched import Watched
from advprune.frozen import frozen, preserve_rng
from advprune.ranges import Count, Seed, refuse_outside
from advprune.runtime.speed import without_kernel_trials
from advprune.threat import Threat


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    version: Literal["standard", "plus", "rand", "custom"] = "standard",
    attacks: list[Part] | None = None,
    seed: Seed = 0,
    engine: Literal["fast"] | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    audit: Count | None = None,
    trail: list[tuple[str, Tensor]] | None = None,
    positions: Tensor | None = None,
    span: tuple[int, int, int] | None = None,
    work: Path | None = None,
    facts: dict[str, Any] | None = None,
    marks: dict[str, Tensor] | None = None,
    monitor: AttackMonitor | None = None,
) -> Tensor:
    """Attack in turn with each part the images that the parts before it left right.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K), K >= 4 for ``standard``; attacked in
            eval mode and restored afterwards.
        x: clean images (N, C, H, W), float32 in [0, 1]. The batch is attacked as a whole: its size
            is part of the result, so record it.
        y: labels (N,) int64.
        threat: the ball.
        version: ``standard`` is the one to publish; ``rand`` is for randomised models; ``custom``
            runs ``attacks`` with pyautoattack's own constants for them (5 restarts of apgd and
            fab).
        attacks: for ``custom`` only: apgd-ce, apgd-dlr, fab, square, apgd-t, fab-t.
        seed: seed of every part; torch's global generators are not touched.
        engine: None for pyautoattack; ``fast`` for ours, which a test compares with it image by
            image.
        precision: precision of the fast engine's search, None for the fastest on the device. The
            model itself always decides in float32 which images are fooled.
        audit: so many of the images of an evaluation that the fast engine leaves right, drawn by
            the seed and spread evenly over its batches, go through pyautoattack afterwards; of a
            batch all, if fewer are right; None for none. One that falls is not robust.
        trail: a list to which ("clean", flags) and then (part, flags) are appended in the order in
            which they ran; flags (N,) bool say which images are still right. The mean of flags is
            the robust accuracy.
        positions: places of the images in their test set (N,), which decide the fast engine's
            random numbers.
        span: which images of the evaluation these are: the first, the one after the last, and how
            many there are in all. It decides how many of the audit's are theirs; None: all.
        work: file in which the fast engine saves its state while it runs, and from which it
            resumes if the file exists.
        facts: a dict to which ``engine``, with its version, is added, and the search's precision.
        marks: a dict to which ``audited``, which images were audited (N,) bool, is added.
        monitor: that hears how far each part is, and what it has left.

    Returns:
        x_adv (N, C, H, W); an image that is still right, or was wrong before, comes back clean.

    Raises:
        UserError: for an unknown version, part, engine or precision, parts without ``custom``, a
            version that the fast engine lacks, input that is not float32, or too few classes.
    """
    check_options(version, attacks, x)
    refuse_outside(autoattack, audit=audit)
    check_engine(engine, precision, version, attacks, audit)
    x, facts = x.detach(), facts if facts is not None else {}
    with frozen(model), preserve_rng(), preserve_tracer(), without_kernel_trials():
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        watched = Watched(model, x, y, threat, monitor)

        def official(network: Watched) -> pyautoattack.AutoAttack:
            package = official_package(network, x.device, threat, version, attacks, seed)
            check_classes(package, package.attacks_to_run, classes)
            return package

        package = official(watched)
        parts = list(package.attacks_to_run)
        if engine == "fast":
            fast_engine = Engine(
                model,
                x,
                y,
                places(positions, len(x)),
                threat,
                restarts=package.apgd.n_restarts,
                seed=seed,
                precision=precision,
                work=work,
                monitor=monitor,
            )
            facts |= fast_engine.facts
            x_adv, steps = fast_engine.run(tuple(parts))
            if audit is not None:
                fast_engine.save(steps)  # an audit that is killed does not search again
                right = steps[-1][1].clone()
                audited = audits.audit(
                    watched,
                    y,
                    right,
                    x_adv,
                    official=official,
                    images=audits.share(audit, span),
                    seed=seed,
                )
                steps = [*steps, ("audit", right)]
                if marks is not None:
                    marks["audited"] = audited
            fast_engine.journal.clear()
        else:
            facts |= {"engine": f"pyautoattack {importlib.metadata.version('pyautoattack')}"}
            x_adv, steps = run_package(package, parts, watched, y)
    # Square that beats the gradient attacks is a sign of masked gradients; run alone, it cannot
    # notice.
    shares = {name: flags.float().mean().item() for name, flags in steps}
    check_square_sr(shares, logger=logging.getLogger("auto-attack"))
    if trail is not None:
        trail += steps
    return x_adv
