"""Randomised smoothing (Cohen et al. 2019, https://arxiv.org/abs/1902.02918): CERTIFY, many images in one forward.

Differs from the authors' code in whose noise an image gets: its own, drawn from its position in the
test set, so that a result depends neither on the batch nor on which process does it.
"""

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from scipy.stats import binomtest
from torch import Tensor, nn

from advprune.bounds.certificate import Certificate
from advprune.bounds.layers import refuse_training
from advprune.errors import UserError
from advprune.frozen import effective_network, frozen
from advprune.prediction import NO_CLASS, predict
from advprune.ranges import Count, Length, Seed, refuse_outside
from advprune.threat import Threat

#: Numbers of noise drawn by one call: of an image's shape alone, never of the batch.
DRAW = 2**22


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
    """The smoothed class of each image and the L2 radius it holds in, each with probability 1 - ``alpha``.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K); in eval mode here, left as found. Noisy pixels
            are not clipped.
        x: images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        threat: what counts as certified: a radius of its eps for L2, of eps * sqrt(C * H * W) for
            L-infinity.
        positions: (N,) int64: of the images in the test set; they and ``seed`` decide the noise.
        sigma: standard deviation of the noise, in pixel units.
        n0: samples that choose the class.
        n: samples that bound its probability; at least ``n0``.
        alpha: probability that a certificate is wrong, in (0, 0.5).
        forward_size: noisy images that go through the network at once. Where rounding decides no
            class, the result does not depend on it.
        early: stop sampling an image once it abstains whatever the samples left over say. Its
            verdict is the same.
        seed: of the run.

    Raises:
        UserError: if an option is not one of those above, or the network normalises by batch
            statistics; of no image at all, also if no radius could reach the threat.
    """
    _check(sigma, n0, n, alpha, forward_size)
    wanted = threat.eps * (1.0 if threat.norm == "l2" else math.sqrt(x.shape[1:].numel()))
    keys = [(seed, int(position)) for position in positions]
    with effective_network(model) as net, frozen(net), torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                refuse_training(module)
        if len(x) == 0:  # asked only whether it could
            _check_reach(wanted, threat, sigma, n, alpha)
            none = torch.zeros(0, dtype=torch.bool, device=x.device)
            return Certificate(none, none.to(x.dtype), none.long(), none, "l2", smoothed=True)
        sampler = _Sampler(net, x, keys, sigma, forward_size)
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


@lru_cache(maxsize=100_000)
def lower_confidence(hits: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound (scipy): with probability 1 - alpha, a probability is at least this."""
    return float(
        binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    )


def radius_of(probability: float, sigma: float) -> float:
    """The L2 radius of a class of at least this probability under the noise; 0 for one half or less."""
    return sigma * NormalDist().inv_cdf(probability) if probability > 0.5 else 0.0


def least_hits(n: int, alpha: float) -> int:
    """The fewest of ``n`` samples on one class that do not abstain; n + 1 if there is no such number."""
    low, high = n // 2, n + 1
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if lower_confidence(middle, n, alpha) <= 0.5 else (low, middle)
    return high


def _hits(
    sampler: "_Sampler", guess: Tensor, n: int, alpha: float, early: bool
) -> tuple[Tensor, Tensor]:
    """How many of ``n`` samples fall on each guess, and which images were given up before all were drawn."""
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


class _Sampler:
    """Classes of noisy copies, counted; the noise comes in blocks, each from its own seed, whatever the batch."""

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        keys: list[tuple[int, int]],
        sigma: float,
        forward_size: int,
    ) -> None:
        self.net, self.x, self.keys, self.sigma, self.forward_size = (
            net,
            x,
            keys,
            sigma,
            forward_size,
        )
        self.block = max(min(DRAW // x[0].numel(), 1000), 1)
        self.generator = torch.Generator(x.device)

    def counts(self, purpose: str, images: range | list[int], start: int, end: int) -> Tensor:
        """How often samples ``start`` to ``end`` of these images fall on each class, (N, K); zero rows for others.

        ``start`` is the beginning of a block.
        """
        seen: Tensor | None = None
        for noisy, owner in self._batches(purpose, images, start, end):
            logits = self.net(noisy)
            classes = logits.shape[1]
            given = predict(logits)
            some = given != NO_CLASS  # a sample without a class is a hit for none
            flat = torch.bincount((owner * classes + given)[some], minlength=len(self.x) * classes)
            seen = flat if seen is None else seen + flat
        assert seen is not None
        return seen.view(len(self.x), -1)

    def _batches(
        self, purpose: str, images: range | list[int], start: int, end: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        blocks = [
            (i, at, min(at + self.block, end))
            for i in images
            for at in range(start, end, self.block)
        ]
        size = min(max(self.forward_size, self.block), len(images) * (end - start))
        room = torch.empty(size, *self.x.shape[1:], dtype=self.x.dtype, device=self.x.device)
        owners, filled = [], 0
        for number, (image, at, until) in enumerate(blocks):
            part = room[filled : filled + until - at]
            seed = hashlib.blake2b(
                f"{purpose}/{self.keys[image]}/{at}".encode(), digest_size=8
            ).digest()
            part.normal_(
                0.0,
                self.sigma,
                generator=self.generator.manual_seed(int.from_bytes(seed, "little") >> 1),
            )
            part += self.x[image]
            owners.append((image, len(part)))
            filled += len(part)
            following = blocks[number + 1] if number + 1 < len(blocks) else None
            if following is None or filled + following[2] - following[1] > size:
                whose, counts = (
                    torch.tensor(column, device=self.x.device)
                    for column in zip(*owners, strict=True)
                )
                yield room[:filled], whose.repeat_interleave(counts)
                owners, filled = [], 0


def _check(sigma: float, n0: int, n: int, alpha: float, forward_size: int) -> None:
    refuse_outside(
        certify_smoothing, sigma=sigma, n0=n0, n=n, alpha=alpha, forward_size=forward_size
    )
    if n < n0:
        raise UserError(
            f"certify_smoothing: n={n} samples bound what n0={n0} chose: give 1 <= n0 <= n, as 100 and 10000"
        )


def _check_reach(wanted: float, threat: Threat, sigma: float, n: int, alpha: float) -> None:
    farthest = radius_of(alpha ** (1 / n), sigma)  # the bound where every sample agrees
    if wanted > farthest:
        raise UserError(
            f"certify_smoothing: n={n} samples at sigma={sigma:g} prove radii up to {farthest:.3g}, and threat "
            f"{threat.norm} {threat.eps:g} asks for {wanted:.3g} in L2: nothing could be certified; give threat=l2 "
            "with a smaller threat.eps (the records hold every image's radius), or a larger sigma"
        )
