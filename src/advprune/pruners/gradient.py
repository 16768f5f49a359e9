"""Gradient scores: |w * g| of ShrinkBench (Blalock et al. 2020), and g of GAP.

ShrinkBench: https://arxiv.org/abs/2003.03033.

Greedy adversarial pruning (O'Brien Weiss et al. 2022, https://arxiv.org/abs/2206.07406) scores each
parameter by its gradient on adversarial inputs and removes the largest. What differs from the
authors' code, which ``gap_authors`` has: the attack's own gradients are not added, g is the mean
over images and not a sum of batch means, the attack is on the true label in pixel space, and the
network is left as it was.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.errors import UserError
from advprune.masks import Scores, prunable
from advprune.pruners.batches import Attack, Batches, first
from advprune.pruners.eligible import Eligible
from advprune.ranges import Count

Score = Literal["signed", "abs", "weighted", "weighted_signed"]


def gradient(
    model: nn.Module,
    batches: Batches,
    *,
    score: Score = "weighted",
    attack: Attack | None = None,
    count: Count | None = None,
    mode: Literal["train", "eval"] = "eval",
    predicted_labels: bool = False,
    eligible: Eligible = prunable,
) -> Scores:
    """Score each parameter by the gradient g of the mean cross-entropy.

    Args:
        model: a network from images (N, C, H, W) to logits (N, K).
        batches: training batches (x, y).
        score: ``signed`` is g, ``abs`` |g|, ``weighted`` |w * g|, ``weighted_signed`` w * g.
        attack: (model, x, y) -> x_adv that the gradient is taken at; None: the clean images.
        count: of batches looked at; None: all.
        mode: of the network while g is taken (batch statistics, dropout); it is always attacked in
            eval mode.
        predicted_labels: the network's own answers on clean images in place of the labels.
        eligible: model -> the parameters scored.

    Returns:
        One tensor per eligible parameter, of its shape. The model is left as found, its BatchNorm
        statistics too.

    Raises:
        UserError: for an unknown score or mode, or if there is no batch.
    """
    check_score(score)
    weights = eligible(model)
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    images = 0
    with scoring_mode(model, mode, weights.values()):
        for x, y in first(batches, count):
            if predicted_labels:
                with torch.no_grad():
                    y = model(x).argmax(1)
            x = x if attack is None else attack(model, x, y).detach()
            with torch.enable_grad():
                loss = F.cross_entropy(model(x), y, reduction="sum")
            add(total, torch.autograd.grad(loss, list(weights.values()), allow_unused=True))
            images += len(y)
    return scored({name: g / images for name, g in total.items()}, weights, score)


def check_score(score: str) -> None:
    """Check that a score's name is known."""
    if score not in ("signed", "abs", "weighted", "weighted_signed"):
        raise UserError(
            f"score={score!r} is not one of signed (g), abs (|g|), weighted (|w*g|), "
            "weighted_signed (w*g)"
        )


def scored(gradients: Scores, weights: dict[str, nn.Parameter], score: Score) -> Scores:
    """Return the named score of each parameter, from its gradient."""
    if score.startswith("weighted"):
        gradients = {name: weights[name].detach() * g for name, g in gradients.items()}
    return {name: g.abs() if score in ("abs", "weighted") else g for name, g in gradients.items()}


def add(total: Scores, gradients: Iterable[Tensor | None]) -> None:
    """Add gradients to ``total`` in place; None is that of a parameter the loss does not use."""
    for summed, g in zip(total.values(), gradients, strict=True):
        if g is not None:
            summed += g


@contextmanager
def scoring_mode(model: nn.Module, mode: str, weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Keep the model in ``mode`` with gradients on ``weights`` alone, then restore it.

    Raises:
        UserError: for an unknown mode.
    """
    if mode not in ("train", "eval"):
        raise UserError(f"mode={mode!r} is not one of train, eval")
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()] if mode == "train" else []
    try:
        model.train(mode == "train")
        model.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for module, was in modes:
            module.training = was
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for buffer, value in kept:
            buffer.copy_(value)
