"""Randomised smoothing (Cohen et al. 2019, https://arxiv.org/abs/1902.02918).

CERTIFY of the paper, many images in one forward pass. Differs from the authors' code in the noise:
it belongs to an image's position in the test set, so that a result depends neither on the batch nor
on the process that computes it.
"""

import math
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor, nn

from advprune.bounds.binomial import least_hits, lower_confidence, radius_of
from advprune.bounds.layers import refuse_training
from advprune.bounds.noise import Sampler
from advprune.errors import UserError
from advprune.frozen import effective_network, frozen
from advprune.ranges import Count, Length, Seed, refuse_outside
from advprune.threat import Certificate, Threat


def certify_smoothing(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat,
    positions: Tensor,
    sigma: Length = 0.25,
    n0: Count = 100,
    n: Count = 10_000,
    alpha: Annotated[float, Gt(0), Lt(0.5)] = 0.001,
    forward_size: Count = 10_000,
    early: bool = False,
    seed: Seed = 0,
) -> Certificate:
    """Certify the smoothed class of each image and its L2 radius, with probability 1 - ``alpha``.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K); evaluated in eval mode and restored
            afterwards. Noisy pixels are not clipped.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: the radius that counts as certified: its eps for L2, eps * sqrt(C * H * W) for
            L-infinity.
        positions: places of the images in the test set, (N,) int64; they and ``seed`` decide the
            noise.
        sigma: standard deviation of the noise, in pixel units, above 0.
        n0: samples that choose the class, at least 1.
        n: samples that bound its probability, at least ``n0``.
        alpha: probability that a certificate is wrong, in (0, 0.5).
        forward_size: noisy images that go through the network at once. Where rounding decides no
            class, the result does not depend on it.
        early: whether to stop sampling an image once it must abstain whatever the remaining
            samples are. The result is the same.
        seed: seed of the run.

    Returns:
        One entry per image, with radii in L2.

    Raises:
        UserError: if an option is not one of those above, or the network normalises by batch
            statistics; with no images, also if no radius could reach the threat.
    """
    _check(sigma, n0, n, alpha, forward_size)
    wanted = threat.eps * (1.0 if threat.norm == "l2" else math.sqrt(x.shape[1:].numel()))
    keys = [(seed, int(position)) for position in positions]
    with effective_network(model) as net, frozen(net), torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                refuse_training(module)
        if len(x) == 0:  # the dry run only checks whether a certificate is possible
            _check_reach(wanted, threat, sigma, n, alpha)
            none = torch.zeros(0, dtype=torch.bool, device=x.device)
            return Certificate(none, none.to(x.dtype), none.long(), none, "l2", smoothed=True)
        sampler = Sampler(net, x, keys, sigma, forward_size)
        guess = sampler.counts("choose", range(len(x)), 0, n0).argmax(1)
        hits, decided = _hits(sampler, guess, n, alpha, early)
    lower = [lower_confidence(int(k), n, alpha) for k in hits]
    abstained = (
        torch.tensor([low <= 0.5 for low in lower], dtype=torch.bool, device=x.device) | decided
    )
    radii = [
        0.0 if gone else radius_of(low, sigma)
        for low, gone in zip(lower, abstained.tolist(), strict=True)
    ]
    radius = torch.tensor(radii, dtype=x.dtype, device=x.device)
    certified = (
        (guess == y) & ~abstained & torch.tensor([r >= wanted for r in radii], device=x.device)
    )
    return Certificate(
        certified, radius, torch.where(abstained, -1, guess), abstained, "l2", smoothed=True
    )


def _check(sigma: float, n0: int, n: int, alpha: float, forward_size: int) -> None:
    refuse_outside(
        certify_smoothing, sigma=sigma, n0=n0, n=n, alpha=alpha, forward_size=forward_size
    )
    if n < n0:
        raise UserError(
            f"certify_smoothing: n={n} samples bound what n0={n0} chose: "
            "give 1 <= n0 <= n, as 100 and 10000"
        )


def _check_reach(wanted: float, threat: Threat, sigma: float, n: int, alpha: float) -> None:
    farthest = radius_of(alpha ** (1 / n), sigma)  # the bound where every sample agrees
    if wanted > farthest:
        raise UserError(
            f"certify_smoothing: n={n} samples at sigma={sigma:g} prove radii up to "
            f"{farthest:.3g}, and threat {threat.norm} {threat.eps:g} asks for {wanted:.3g} in L2: "
            "nothing could be certified; give threat=l2 with a smaller threat.eps (the records "
            "hold every image's radius), or a larger sigma"
        )


def _hits(
    sampler: "Sampler", guess: Tensor, n: int, alpha: float, early: bool
) -> tuple[Tensor, Tensor]:
    """Count how many of ``n`` samples fall on each guess, and mark images that must abstain."""
    hits, decided = torch.zeros_like(guess), torch.zeros_like(guess, dtype=torch.bool)
    if not early:
        return sampler.counts("bound", range(len(guess)), 0, n).gather(1, guess[:, None]).squeeze(
            1
        ), decided
    least = least_hits(n, alpha)
    for start in range(0, n, sampler.block):
        left = (~decided).nonzero().squeeze(1)
        end = min(start + sampler.block, n)
        hits[left] += sampler.counts("bound", left.tolist(), start, end)[left, guess[left]]
        decided = hits + (n - end) < least
    return hits, decided
