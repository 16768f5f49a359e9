"""Schedules as pure functions of how far training is.

``progress`` is the share of training that is done, in [0, 1); ``epoch`` counts from 0.
Learning-rate shapes return a factor of the peak learning rate, ramps a factor of the final value.
"""

import math


def cosine(progress: float) -> float:
    """Follow half a cosine from 1 down to 0.

    From Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983.
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def cosine_authors(epoch: int, epochs: int) -> float:
    """Follow the cosine of HYDRA's code, one epoch late: 1 at epoch 1 and never 0.

    The code belongs to Sehwag et al. 2020, https://arxiv.org/abs/2002.10509.
    """
    return 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


def step(progress: float) -> float:
    """Return 1, then 0.1 from three quarters of training on, then 0.01 from nine tenths on."""
    if progress < 0.75:
        return 1.0
    return 0.1 if progress < 0.9 else 0.01


def step_half(progress: float) -> float:
    """Return 1, then 0.1 from half of training on, then 0.01 from three quarters on.

    This is how https://arxiv.org/abs/2206.07406 trains.
    """
    if progress < 0.5:
        return 1.0
    return 0.1 if progress < 0.75 else 0.01


def one_cycle(progress: float, *, rise: float = 0.4) -> float:
    """Rise linearly from 0 to 1 over the first ``rise`` of training, then fall linearly to 0.

    The triangle of Smith 2018, https://arxiv.org/abs/1803.09820, that fast adversarial training
    uses.

    Args:
        progress: share of training that is done, in [0, 1).
        rise: share of training in which the factor rises, in (0, 1).
    """
    return progress / rise if progress < rise else (1 - progress) / (1 - rise)


def eps_ramp(epoch: float, length: float) -> float:
    """Rise linearly from 0 at epoch 0 to 1 at epoch ``length`` and after.

    A ``length`` of 0 gives 1 at once; a fractional epoch gives a ramp per step. CROWN-IBP's weight
    of the linear bound is 1 minus this.
    """
    return epoch / length if epoch < length else 1.0


def iw(epoch: int, schedule_length: int = 0, *, start: float = 0.1) -> float:
    """Return MixTrain's weight of the worst-case loss, between ``start`` and 50.

    It is multiplied by 2.5 every five epochs after the eps ramp of ``schedule_length`` epochs.
    """
    return min(start * 2.5 ** (max(epoch - schedule_length, 0) // 5), 50.0)
