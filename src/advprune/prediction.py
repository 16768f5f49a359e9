"""The class a network predicts, and whether it is right: decided here and nowhere else.

Logits that are not finite give no class. ``argmax`` alone would name one: the first that is not a
number, so that a network of NaN would be right about, and robust on, every image of class 0.
"""

import torch
from torch import Tensor

from advprune.losses import margin

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
