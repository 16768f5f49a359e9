"""MART (Wang et al. 2020, https://openreview.net/forum?id=rklOg6EFwS).

Adversarial training in which mistakes on clean images weigh more. Differs from the authors' code in
taking log(1 - p) from the logits, where the code adds 1e-4 so that it is finite.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.logits import kl
from advprune.ranges import Weight, refuse_outside


def mart(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    beta: Weight = 5.0,
) -> Tensor:
    """Compute the mean over the batch of BCE(f(x_adv), y) + beta * KL(p || p_adv) * (1 - p_y).

    p and p_adv are the predictions on x and x_adv; BCE = -log p_adv_y - log(1 - largest p_adv of a
    wrong class).

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); the loss is computed in its present
            mode.
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        attack: (model, x, y) -> x_adv (N, C, H, W).
        beta: weight of the divergence (the paper's lambda), >= 0.

    Returns:
        A scalar.

    Raises:
        UserError: if ``beta`` is negative.
    """
    refuse_outside(mart, beta=beta)
    x_adv = attack(model, x, y)
    probs, logits_adv = model(x).softmax(1), model(x_adv)
    uncertainty = 1 - probs.gather(1, y[:, None]).squeeze(1)
    boosted = _boosted_cross_entropy(logits_adv, y)
    return (boosted + beta * kl(logits_adv, probs) * uncertainty).mean()


def _boosted_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return a loss (N,) that raises the label's probability and lowers the largest other one."""
    rival = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
    # 1 - p_rival is what the other classes share
    others = logits.scatter(1, rival[:, None], -torch.inf).logsumexp(1)
    return F.cross_entropy(logits, y, reduction="none") + logits.logsumexp(1) - others
