"""Training for randomised smoothing: five losses on an image's noisy copies.

* gaussian: augmentation with noise (Cohen et al. 2019, https://arxiv.org/abs/1902.02918).
* stability: HYDRA's, from robust self-training (Carmon et al. 2019,
  https://arxiv.org/abs/1905.13736).
* smoothadv: an attack on the smoothed network (Salman et al. 2019,
  https://arxiv.org/abs/1906.04584).
* consistency: the copies agree (Jeong and Shin 2020, https://arxiv.org/abs/2006.04062).
* macer: the certified radius is maximised (Zhai et al. 2020, https://arxiv.org/abs/2001.02378).

They differ from the authors' code only in the noise, which is new in each step and for each image.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from advprune.distributed.sharding import sharded_random
from advprune.errors import UserError
from advprune.logits import kl
from advprune.ranges import Length, Weight, refuse_outside

Form = Literal["gaussian", "stability", "smoothadv", "consistency", "macer"]
#: MACER's temperature of the soft vote, and the radius (over sigma / 2) beyond which it stops.
TEMPERATURE, FARTHEST = 16.0, 8.0


def smoothing(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    progress: float,
    sigma: Length = 0.25,
    form: Form = "stability",
    samples: Annotated[int, Ge(1), Le(100_000)] = 1,
    beta: Weight = 6.0,
    entropy: Weight = 0.5,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Compute the loss named by ``form``, a mean over the batch; noisy pixels are not clipped.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K).
        x: clean images (N, C, H, W) in [0, 1].
        y: labels (N,) int64.
        progress: share of training that is done, in [0, 1); not used.
        sigma: standard deviation of the noise, in pixel units, above 0.
        form: which loss, see the head of this file.
        samples: noisy copies of an image; at least 2 for consistency and macer.
        beta: weight of the second term, >= 0: of stability, of consistency (the paper's lambda),
            of macer's radius.
        entropy: weight of consistency's third term (the paper's eta), >= 0.
        attack: for smoothadv only: (model, x, y) -> x_adv, where the model is the smoothed network
            and returns log-probabilities.

    Returns:
        A scalar.

    Raises:
        UserError: if an option is not one of those above.
    """
    _check(sigma, form, samples, attack)
    noise = sigma * sharded_random(torch.randn_like, x.expand(samples, *x.shape), axis=1)
    if form == "stability":
        logits = model(x)
        noisy = model((x + noise).flatten(0, 1)).unflatten(0, (samples, len(x)))
        moved = torch.stack([kl(one, logits.softmax(1)) for one in noisy])
        return F.cross_entropy(logits, y) + beta * moved.mean()
    if form == "smoothadv":
        assert attack is not None
        x = attack(Smoothed(model, noise), x, y)
    noisy = model((x + noise).flatten(0, 1)).unflatten(0, (samples, len(x)))
    plain = F.cross_entropy(noisy.flatten(0, 1), y.repeat(samples))
    if form == "consistency":
        mean = noisy.softmax(2).mean(0)
        apart = torch.stack([kl(one, mean) for one in noisy]).mean()
        mean_entropy = kl(torch.zeros_like(mean), mean).neg().add(_log_classes(mean)).mean()
        return plain + beta * apart + entropy * mean_entropy
    return _macer(noisy, y, sigma, beta) if form == "macer" else plain


class Smoothed(nn.Module):
    """The soft vote over fixed noise as a network: its outputs are logs of mean probabilities.

    Args:
        model: pixels (N, C, H, W) -> logits (N, K).
        noise: (samples, N, C, H, W), added to the N images of a call, in that order.
    """

    def __init__(self, model: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.model, self.noise = model, noise

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (N, K) of images (N, C, H, W)."""
        logits = self.model((x + self.noise).flatten(0, 1)).unflatten(0, (len(self.noise), len(x)))
        return logits.log_softmax(2).logsumexp(0) - torch.log(torch.tensor(float(len(self.noise))))


def _log_classes(probs: Tensor) -> Tensor:
    """Return log K, so that log K - KL(p || uniform) is the entropy of p."""
    return torch.log(torch.tensor(float(probs.shape[1]), dtype=probs.dtype, device=probs.device))


def _macer(noisy: Tensor, y: Tensor, sigma: float, beta: float) -> Tensor:
    """Return -log of the mean probability, plus a hinge on the soft radius of right images."""
    natural = F.nll_loss(noisy.softmax(2).mean(0).clamp_min(1e-12).log(), y)
    vote = (TEMPERATURE * noisy).softmax(2).mean(0)
    right = vote.argmax(1) == y
    label = vote.gather(1, y[:, None]).squeeze(1)
    rival = vote.scatter(1, y[:, None], 0.0).amax(1)
    gap = _quantile(label) - _quantile(rival)
    counted = right & (gap < FARTHEST)
    hinge = torch.where(counted, FARTHEST - gap, 0.0).sum() * sigma / 2
    return natural + beta * hinge / len(y)


def _quantile(probability: Tensor) -> Tensor:
    """Return the normal quantile, kept away from 0 and 1, where its slope is infinite."""
    return torch.special.ndtri(probability.clamp(1e-6, 1 - 1e-6))


def _check(sigma: float, form: str, samples: int, attack: object) -> None:
    refuse_outside(smoothing, sigma=sigma, form=form, samples=samples)
    least = {"consistency": 2, "macer": 2}.get(form, 1)
    if samples < least:
        raise UserError(
            f"smoothing: samples={samples} is too few for form={form}: give at least {least}"
        )
    if (form == "smoothadv") != (attack is not None):
        raise UserError(
            f"smoothing: form={form} and attack={attack}: "
            "smoothadv needs an attack, the others take none"
        )
