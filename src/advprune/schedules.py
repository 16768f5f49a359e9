"""Ramps of verified training, as pure functions of the epoch, which counts from 0."""


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
