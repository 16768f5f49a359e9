"""How a ratio is reached over rounds: cumulative ratios that end exactly at it."""

from advprune.errors import UserError
from advprune.masks import check_ratio
from advprune.pruners.spending import Schedule


def one_shot(ratio: float) -> list[float]:
    """Return one round that removes everything at once."""
    return _ending(ratio, [ratio])


def linear(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that each remove the same share of the original weights."""
    return _ending(ratio, [ratio * i / rounds for i in range(1, rounds + 1)])


def exponential(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that each remove the same share of the remaining weights.

    As in iterative magnitude pruning.
    """
    return _ending(ratio, [1 - (1 - ratio) ** (i / rounds) for i in range(1, rounds + 1)])


def cubic(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that remove ratio * (1 - (1 - i/rounds)^3) by round i: fast first, slow last.

    Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878.
    """
    return _ending(ratio, [ratio * (1 - (1 - i / rounds) ** 3) for i in range(1, rounds + 1)])


def hyperbolic(ratio: float, *, rounds: int) -> list[float]:
    """Return rounds that remove ratio * i / (i + 10) by round i, scaled to end at the ratio.

    Li et al. 2020 (boosting tickets), by a description of their code: slower than exponential at
    first.
    """
    end = rounds / (rounds + 10)
    return _ending(ratio, [ratio * i / (i + 10) / end for i in range(1, rounds + 1)])


def cumulative(ratio: float, *, schedule: Schedule, rounds: int, start: float = 0.0) -> list[float]:
    """Return the share removed after each round, by the named schedule.

    Args:
        schedule: name of the schedule.
        ratio: share removed in the end, in [0, 1).
        rounds: 1 of one_shot, at least 2 of the others, which with one round would be one_shot
            under another name.
        start: share that is gone before the first round, at most ``ratio``; the schedule goes on
            from there.

    Returns:
        ``rounds`` ratios that never fall; the last equals ``ratio`` exactly.

    Raises:
        UserError: for an unknown schedule, a ratio outside [0, 1), or a number of rounds it cannot
            have.
    """
    schedules = {
        "linear": linear,
        "exponential": exponential,
        "cubic": cubic,
        "hyperbolic": hyperbolic,
    }
    if schedule != "one_shot" and schedule not in schedules:
        raise UserError(f"schedule={schedule!r} is not one of one_shot, {', '.join(schedules)}")
    if rounds < 1:
        raise UserError(f"rounds={rounds} is not allowed; pruning takes at least 1 round")
    if schedule != "one_shot" and rounds == 1:
        raise UserError(
            f"schedule={schedule} with rounds=1 is one shot: give two rounds or more, such as "
            "pruner.rounds=5, or pruner.schedule=one_shot"
        )
    if schedule != "one_shot":
        left = (1 - ratio) / (
            1 - start
        )  # of what is left at the start, the share that stays in the end
        shares = schedules[schedule](1 - left if start else ratio, rounds=rounds)
        return _ending(ratio, [start + (1 - start) * share for share in shares])
    if rounds != 1:
        raise UserError(
            f"rounds={rounds} does not fit schedule=one_shot, which has 1; write schedule=linear, "
            "or rounds=1"
        )
    return one_shot(ratio)


def _ending(ratio: float, ratios: list[float]) -> list[float]:
    check_ratio(ratio)
    return [min(r, ratio) for r in ratios[:-1]] + [ratio]
