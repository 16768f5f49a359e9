"""Which class a network gives an image, and whether that is right: decided here and nowhere else.

Logits that are not finite give no class. ``argmax`` alone would name one: the first that is not a
number, so that a network of NaN would be right about, and robust on, every image of class 0.
"""

import torch
from torch import Tensor

from advprune.losses import margin

#: In place of a class: at least one logit of the image is not finite. No label is this.
NO_CLASS = -1


def finite(logits: Tensor) -> Tensor:
    """Whether all logits (N, K) of an image are finite: bool (N,)."""
    return logits.isfinite().all(1)


def predict(logits: Tensor) -> Tensor:
    """The class of each image, int64 (N,); ``NO_CLASS`` where a logit of (N, K) is not finite."""
    return torch.where(finite(logits), logits.argmax(1), NO_CLASS)


def is_right(logits: Tensor, y: Tensor) -> Tensor:
    """Whether the network gives each image its label: bool (N,); never where a logit is not finite."""
    return predict(logits) == y


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """The best wrong logit minus the label's, (N,); infinite where a logit is not finite, for the label is lost there.

    Of two logits that are equally large it does not say which one ``argmax`` takes: ``is_right`` is
    the judge.
    """
    return torch.where(finite(logits), margin(logits, y), torch.inf)
