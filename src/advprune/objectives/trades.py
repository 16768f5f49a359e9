"""TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573).

Cross-entropy plus beta times how far an attack moves the prediction. Differs from the authors'
code, not from the paper: the natural prediction is computed once and not in every attack step, and
nothing is computed for a log. With k attack steps that is k + 3 forwards, not 2k + 4 (k + 2 for a
network that is the same in train and eval mode), and BatchNorm's running statistics move twice a
step, natural batch first, not four times.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.frozen import frozen, ignores_mode
from advprune.logits import kl
from advprune.ranges import ShareBelowOne, Weight, refuse_outside
from advprune.runtime.speed import Mixed, full_precision


def trades(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    beta: Weight = 6.0,
    label_smoothing: ShareBelowOne | None = None,
) -> Tensor:
    """Compute CE(f(x), y) + beta * KL(softmax f(x) || softmax f(x_adv)), means over the batch.

    The gradient flows through both arguments of the divergence.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        attack: (model, x, p) -> x_adv, climbing the divergence from the natural prediction p (N,
            K): pgd with ``loss: kl`` and a gaussian start, for at x itself the divergence has no
            slope.
        beta: weight of robustness against accuracy, >= 0.
        label_smoothing: share of the label's probability that is spread over all classes in the
            cross-entropy, in [0, 1); None for none.

    Returns:
        A scalar.

    Raises:
        UserError: if ``beta`` is negative.
    """
    refuse_outside(trades, beta=beta)
    if _predicts_as_it_trains(model):
        logits = model(x)
        x_adv = attack(model, x, logits.detach().softmax(1))
    else:
        # an attack that replays its images does not look at what it is told: one forward less
        replays = getattr(attack, "replays", False)
        x_adv = attack(model, x, y if replays else _natural_prediction(model, x))
        logits = model(x)
    logits_adv = model(x_adv)
    natural = F.cross_entropy(logits, y, label_smoothing=label_smoothing or 0.0)
    return natural + beta * kl(logits_adv, logits.softmax(1)).mean()


def _predicts_as_it_trains(model: nn.Module) -> bool:
    """Return whether the logits of the loss are those of the natural prediction."""
    return ignores_mode(model) and not isinstance(model, Mixed)


def _natural_prediction(model: nn.Module, x: Tensor) -> Tensor:
    """Return softmax f(x) (N, K) in eval mode, without a graph."""
    with frozen(model), torch.no_grad(), full_precision():
        return model(x).softmax(1)
