"""FMN (Pintor et al. 2021, https://arxiv.org/abs/2102.12827): the nearest point of another class.

Each step climbs the margin of a class, and the ball in which it climbs grows or shrinks towards the
boundary. Differs from the paper: the search is repeated towards each of the likeliest wrong classes
(as AutoAttack's targeted parts do) and from random points, for alone it ends in a nearby minimum;
a line search towards the image is the last step.
"""

import torch
from torch import Tensor, nn

from advprune.attacks.nearest import Nearest, annealed
from advprune.attacks.per_image_rng import places, uniform
from advprune.frozen import frozen
from advprune.logits import margin
from advprune.ranges import Count, Natural, OpenShare, Positive, Seed, refuse_outside
from advprune.threat import Threat

#: Of the last step: its length is this share of the first one's, and its change of the radius too.
FINAL_STEP, FINAL_GAMMA = 0.01, 0.001


def fmn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    steps: Count = 100,
    targets: Natural = 9,
    restarts: Natural = 3,
    step_length: Positive = 1.0,
    gamma: OpenShare = 0.05,
    seed: Seed = 0,
    positions: Tensor | None = None,
    nearest: list[Tensor] | None = None,
) -> Tensor:
    """Search for the nearest misclassified point of each image, at whatever distance.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); attacked in eval mode, left as found.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        threat: whose norm is minimised; its radius does not influence the search.
        steps: gradient steps of each search.
        targets: searches towards this many wrong classes, the likeliest first, after one search
            towards whichever comes first; with ``restarts=0``, 0 is the paper's one search.
        restarts: repeats all searches this many times, from random points no farther than what was
            found.
        step_length: Euclidean length of the first step; the last one has a hundredth of it.
        gamma: by which share the radius first changes in a step; annealed to 0.001.
        seed: of the random points.
        positions: places of the images in their test set (N,), to which random points belong.
        nearest: a list to which the points (N, C, H, W) are appended, which may lie outside the
            ball.

    Returns:
        x_adv (N, C, H, W): the point where it lies in the ball, and else the image itself.

    Raises:
        UserError: if an option is outside its range.
    """
    given = {"steps": steps, "targets": targets, "restarts": restarts, "seed": seed}
    refuse_outside(fmn, **given, step_length=step_length, gamma=gamma)
    x, pixels = x.detach(), x[0].numel() if len(x) else 0
    found = Nearest(x, y, threat)
    with frozen(model), torch.enable_grad():
        chosen = _targets(model, x, y, targets)
        draws = uniform("fmn", seed, places(positions, len(x)), restarts * len(chosen), pixels)
        still, random = torch.zeros_like(x), (2 * draws - 1).to(x)
        starts = [still] * len(chosen) + [draw.view_as(x) for draw in random]
        for start, target in zip(starts, chosen * (1 + restarts), strict=True):
            if not found.distance.any():  # no point is nearer than an image that is itself wrong
                break
            _search(model, found, start, target, steps, step_length, gamma)
        found.refine(model)
    if nearest is not None:
        nearest.append(found.points)
    return found.in_ball()


def _targets(model: nn.Module, x: Tensor, y: Tensor, count: int) -> list[Tensor | None]:
    """Return None, for whichever class is nearest, and wrong classes (N,), the likeliest first."""
    with torch.no_grad():
        logits = model(x).nan_to_num()
    ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    return [None, *ranked[:, : min(count, logits.shape[1] - 1)].unbind(1)]


def _search(
    model: nn.Module,
    found: Nearest,
    start: Tensor,
    target: Tensor | None,
    steps: int,
    step_length: float,
    gamma: float,
) -> None:
    """Climb towards a class from x + ``start``, scaled to what was found; ``found`` keeps more."""
    x, y, threat = found.x, found.y, found.threat
    reach, radius = found.distance.minimum(found.farthest), found.farthest
    delta = (x + threat.clip(reach.view(-1, 1, 1, 1) * start, reach)).clamp(0, 1) - x
    crossed, best = torch.zeros_like(y, dtype=torch.bool), found.farthest
    for length, share in zip(
        annealed(step_length, FINAL_STEP * step_length, steps),
        annealed(gamma, FINAL_GAMMA, steps),
        strict=True,
    ):
        point = (x + delta).requires_grad_(True)
        logits = model(point)
        lead = _lead(logits, y, target)
        (grad,) = torch.autograd.grad(lead.sum(), point)
        grad, size = grad.nan_to_num(), threat.distance(delta, torch.zeros_like(delta))
        wrong = found.offer(point.detach(), logits.detach())
        crossed, best = crossed | wrong, torch.where(wrong, size.minimum(best), best)
        slope = (threat.steepest(grad) * grad).flatten(1).sum(1)  # the dual norm of the gradient
        boundary = size + lead.detach().nan_to_num().abs() / slope
        outside = torch.where(crossed, radius * (1 + share), boundary)
        radius = torch.where(wrong, best.minimum(radius * (1 - share)), outside)
        radius = radius.minimum(found.farthest)
        norm = grad.flatten(1).norm(dim=1).clamp_min(torch.finfo(grad.dtype).tiny)
        moved = delta + length * grad / norm.view(-1, 1, 1, 1)
        delta = (x + threat.clip(moved, radius)).clamp(0, 1) - x


def _lead(logits: Tensor, y: Tensor, target: Tensor | None) -> Tensor:
    """Return by how much the target's logit, or the best wrong one, leads the label's: (N,)."""
    if target is None:
        return margin(logits, y)
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None])).squeeze(1)
