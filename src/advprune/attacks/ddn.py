"""DDN (Rony et al. 2019, https://arxiv.org/abs/1811.09600): the nearest point of another class, L2.

Each step climbs the cross-entropy and then puts the perturbation on a sphere, whose radius shrinks
where the image is misclassified and grows where it is not. Differs from the paper: pixels are not
rounded to 256 levels, and the last step is a line search towards the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advprune.attacks.nearest import Nearest, annealed
from advprune.errors import UserError
from advprune.frozen import frozen
from advprune.ranges import Count, OpenShare, Positive, refuse_outside
from advprune.threat import Threat

#: Euclidean length of the first step and of the last one.
FIRST_STEP, LAST_STEP = 1.0, 0.01


def ddn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    steps: Count = 1000,
    gamma: OpenShare = 0.05,
    init_norm: Positive = 1.0,
    nearest: list[Tensor] | None = None,
) -> Tensor:
    """Search for the nearest misclassified point of each image, at whatever distance.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); attacked in eval mode, left as found.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        threat: an L2 ball; its radius does not influence the search.
        steps: gradient steps.
        gamma: by which share the radius changes in a step.
        init_norm: radius of the first sphere.
        nearest: a list to which the points (N, C, H, W) are appended, which may lie outside the
            ball.

    Returns:
        x_adv (N, C, H, W): the point where it lies in the ball, and else the image itself.

    Raises:
        UserError: if the threat is not L2, or an option is outside its range.
    """
    refuse_outside(ddn, steps=steps, gamma=gamma, init_norm=init_norm)
    if threat.norm != "l2":
        raise UserError(
            f"ddn minimises the L2 norm, and this threat is {threat.norm}: give threat=l2, or "
            "attack=fmn, which has both"
        )
    x = x.detach()
    found, delta = Nearest(x, y, threat), torch.zeros_like(x)
    radius = torch.full_like(found.distance, init_norm)
    with frozen(model), torch.enable_grad():
        for length in annealed(FIRST_STEP, LAST_STEP, steps):
            point = (x + delta).requires_grad_(True)
            logits = model(point)
            loss = F.cross_entropy(logits, y, reduction="sum")
            (grad,) = torch.autograd.grad(loss, point)
            wrong = found.offer(point.detach(), logits.detach())
            radius = radius * torch.where(wrong, 1 - gamma, 1 + gamma)
            radius = radius.minimum(found.farthest)
            direction = threat.steepest(delta + length * threat.steepest(grad))
            delta = (x + radius.view(-1, 1, 1, 1) * direction).clamp(0, 1) - x
        found.refine(model)
    if nearest is not None:
        nearest.append(found.points)
    return found.in_ball()
