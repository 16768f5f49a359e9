"""Randomised smoothing (Cohen et al. 2019, https://arxiv.org/abs/1902.02918).

CERTIFY of the paper, many images in one forward pass. Differs from the authors' code in the noise:
it belongs to an image's position in the test set, so that a result depends neither on the batch nor
on the process that computes it.
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

from advprune.bounds.layers import refuse_training
from advprune.errors import UserError
from advprune.frozen import effective_network, frozen
from advprune.logits import NO_CLASS, predict
from advprune.ranges import Count, Length, Seed, refuse_outside
from advprune.threat import Certificate, Threat

#: Noise values drawn by one call: they depend on an image's shape alone, never on the batch.
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
    """Bound a probability from below, from ``hits`` of ``n`` samples.

    The one-sided Clopper-Pearson bound of scipy; it holds with probability 1 - ``alpha``.
    """
    return float(
        binomtest(hits, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    )


def radius_of(probability: float, sigma: float) -> float:
    """Return the L2 radius of a class of at least this probability under noise ``sigma``.

    It is 0 for a probability of one half or less.
    """
    return sigma * NormalDist().inv_cdf(probability) if probability > 0.5 else 0.0


def least_hits(n: int, alpha: float) -> int:
    """Return the fewest of ``n`` samples on one class that certify it; n + 1 if none would do."""
    low, high = n // 2, n + 1
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if lower_confidence(middle, n, alpha) <= 0.5 else (low, middle)
    return high


def _hits(
    sampler: "_Sampler", guess: Tensor, n: int, alpha: float, early: bool
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


class _Sampler:
    """Counter of the classes of noisy copies; each block of noise has a seed of its own.

    Args:
        net: pixels -> logits, frozen.
        x: images (N, C, H, W).
        keys: (seed of the run, position in the test set) of each image.
        sigma: standard deviation of the noise.
        forward_size: noisy images that go through the network at once.
    """

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
        """Count how often samples ``start`` to ``end`` of some images fall on each class.

        Args:
            purpose: what the samples are for; another purpose has other noise.
            images: indices of the images.
            start: first sample, the beginning of a block.
            end: the sample after the last.

        Returns:
            (N, K), with rows of zeros for the other images.
        """
        total: Tensor | None = None
        for noisy, owner in self._batches(purpose, images, start, end):
            logits = self.net(noisy)
            classes = logits.shape[1]
            label = predict(logits)
            valid = label != NO_CLASS  # a sample without a class is a hit for none
            flat = torch.bincount((owner * classes + label)[valid], minlength=len(self.x) * classes)
            total = flat if total is None else total + flat
        assert total is not None
        return total.view(len(self.x), -1)

    def _batches(
        self, purpose: str, images: range | list[int], start: int, end: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield noisy images, and for each the index of its image."""
        blocks = [
            (i, at, min(at + self.block, end))
            for i in images
            for at in range(start, end, self.block)
        ]
        size = min(max(self.forward_size, self.block), len(images) * (end - start))
        buffer = torch.empty(size, *self.x.shape[1:], dtype=self.x.dtype, device=self.x.device)
        owners, filled = [], 0
        for number, (image, at, until) in enumerate(blocks):
            part = buffer[filled : filled + until - at]
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
                image_index, counts = (
                    torch.tensor(column, device=self.x.device)
                    for column in zip(*owners, strict=True)
                )
                yield buffer[:filled], image_index.repeat_interleave(counts)
                owners, filled = [], 0


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
