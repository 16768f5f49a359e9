"""Per-example losses on logits: each takes (N, K) logits and what is wanted of them, and gives (N,) to climb."""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from advprune.errors import UserError

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax at the label; ``y`` is (N,) int64, or (N, K) probabilities."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the right one: positive exactly where the label ``y`` (N,) is lost."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - right


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein 2020, https://arxiv.org/abs/2003.01690): the margin over z1 - z3.

    Raises:
        UserError: with fewer than three classes there is no third logit.
    """
    if logits.shape[1] < 3:
        raise UserError(
            f"the dlr loss needs at least 3 classes, the model has {logits.shape[1]}; use margin"
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def kl(logits: Tensor, probs: Tensor) -> Tensor:
    """KL(probs || softmax(logits)), differentiable in both; ``probs`` is (N, K), rows summing to 1.

    Raises:
        UserError: if ``probs`` are labels.
    """
    if probs.shape != logits.shape:
        raise UserError(
            f"kl compares with probabilities {tuple(logits.shape)}, not {tuple(probs.shape)}; soften y"
        )
    # Where softmax underflows to 0 its logarithm is bounded, so that neither value nor gradient is
    # NaN.
    log_probs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log()
    return (probs * (log_probs - F.log_softmax(logits, dim=1))).sum(1)
