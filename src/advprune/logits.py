"""Read logits: losses that attacks climb, the class predicted, whether it is right; check them.

All of it is per example: logits (N, K) and labels or targets -> (N,). Whether a network is right is
decided here and nowhere else. Logits that are not finite give no class. ``argmax`` alone would name
one: the first that is not a number, so that a network of NaN would be right about, and robust on,
every image of class 0.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from advprune.errors import UserError

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of each example, (N,).

    Args:
        logits: (N, K).
        y: labels (N,) int64, or probabilities (N, K).
    """
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the best wrong logit minus the label's, (N,): positive where the label is lost.

    Args:
        logits: (N, K).
        y: labels (N,) int64.
    """
    right = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - right


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio, (N,): the margin over z1 - z3, the sorted logits.

    From Croce and Hein 2020, https://arxiv.org/abs/2003.01690.

    Args:
        logits: (N, K), K >= 3.
        y: labels (N,) int64.

    Raises:
        UserError: with fewer than three classes, for there is no third logit.
    """
    if logits.shape[1] < 3:
        raise UserError(
            f"the dlr loss needs at least 3 classes, the model has {logits.shape[1]}; use margin"
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def kl(logits: Tensor, probs: Tensor) -> Tensor:
    """Return KL(probs || softmax(logits)) of each example, (N,), differentiable in both.

    Args:
        logits: (N, K).
        probs: probabilities (N, K), rows summing to 1.

    Raises:
        UserError: if ``probs`` are labels.
    """
    if probs.shape != logits.shape:
        raise UserError(
            f"kl compares with probabilities {tuple(logits.shape)}, not {tuple(probs.shape)}; "
            "soften y"
        )
    # Where softmax underflows to 0, its logarithm is bounded: neither value nor gradient is NaN.
    log_probs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    return (probs * (log_probs - F.log_softmax(logits, dim=1))).sum(1)


#: In place of a class: at least one logit of the image is not finite. No label is this.
NO_CLASS = -1


def finite(logits: Tensor) -> Tensor:
    """Return whether all logits (N, K) of an image are finite: bool (N,)."""
    return logits.isfinite().all(1)


def predict(logits: Tensor) -> Tensor:
    """Return the class of each image from logits (N, K): int64 (N,).

    It is ``NO_CLASS`` where a logit is not finite.
    """
    return torch.where(finite(logits), logits.argmax(1), NO_CLASS)


def is_right(logits: Tensor, y: Tensor) -> Tensor:
    """Return whether logits (N, K) give each image its label (N,): bool (N,).

    An image with a logit that is not finite is never right.
    """
    return predict(logits) == y


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much the best wrong logit leads the label's, (N,).

    It is infinite where a logit is not finite, for the label is lost there. Of two equally large
    logits it does not say which one ``argmax`` takes: ``is_right`` decides.
    """
    return torch.where(finite(logits), margin(logits, y), torch.inf)


def check(logits: object, *, images: int, classes: int) -> None:
    """Check that what a network returned for some images can be its logits.

    Args:
        logits: what it returned.
        images: how many images it was given.
        classes: how many logits each should have.

    Raises:
        UserError: if it is no tensor (images, classes), or holds probabilities or NaN.
    """
    if not isinstance(logits, Tensor):
        raise UserError(
            f"the network returns a {type(logits).__name__}: it must return one tensor of logits "
            f"(images, {classes}); give a module that returns that part alone"
        )
    if tuple(logits.shape) != (images, classes):
        raise UserError(
            f"the network returns {tuple(logits.shape)} for {images} images and {classes} classes: "
            f"it must return logits ({images}, {classes})"
        )
    if not bool(logits.isfinite().all()):
        raise UserError(
            "the network returns NaN or infinite logits: look for a division by zero or weights "
            "that diverged"
        )
    if are_probabilities(logits):
        raise UserError(
            "the network returns probabilities, on which attacks and losses are weak: return the "
            "logits, without the softmax"
        )


def are_probabilities(outputs: Tensor) -> bool:
    """Return whether outputs (N, K) are positive and sum to 1 for each image."""
    return bool((outputs.min() >= 0) & ((outputs.sum(1) - 1).abs().max() < 1e-3))
