"""Square Attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049): no gradients.

The random search on logits that ends AutoAttack, alone, from pyautoattack and with its constants;
only the number of queries is an option.
"""

import torch
from pyautoattack.square import SquareAttack
from torch import Tensor, nn

from advprune.attacks.watched import Watched
from advprune.frozen import frozen, preserve_rng
from advprune.ranges import Count, Seed, refuse_outside
from advprune.threat import Threat

#: AutoAttack's number of queries, for which it does not rescale the paper's schedule of 10,000.
AUTOATTACK = 5000


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    n_queries: Count = AUTOATTACK,
    seed: Seed = 0,
) -> Tensor:
    """Try random squares on each image until it fools the model or its queries are used up.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); only its outputs are used. Attacked
            in eval mode and restored afterwards.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        threat: the ball.
        n_queries: forward passes per image at most, at least 1. The squares shrink over exactly
            this number.
        seed: seed of the search; torch's global generators are not touched.

    Returns:
        x_adv (N, C, H, W); an image on which the search failed comes back clean.

    Raises:
        UserError: if ``n_queries`` is below 1.
    """
    refuse_outside(square, n_queries=n_queries)
    if len(x) == 0:
        return x.clone()
    watched = Watched(model, x, y, threat)
    engine = SquareAttack(
        watched,
        norm=threat.norm.capitalize(),
        n_queries=n_queries,
        eps=threat.eps,
        p_init=0.8,
        n_restarts=1,
        seed=seed,
        device=x.device,
        resc_schedule=n_queries != AUTOATTACK,
    )
    with frozen(model), preserve_rng():
        x_adv = engine.perturb(x.detach().contiguous(), y).detach()
    return torch.where(watched.lost.view(-1, 1, 1, 1), watched.points, x_adv)
