"""Write shares and differences as a reader of the standings sees them."""

from advprune.report.data.intervals import Interval
from advprune.report.data.significance import Comparison


def percent(share: float, interval: Interval | None) -> str:
    """Return a share in percent with its interval: ``53.1 [48.0, 58.2]``."""
    if interval is None:
        return f"{100 * share:.1f}"
    low, high = 100 * max(interval[0], 0), 100 * min(interval[1], 1)
    return f"{100 * share:.1f} [{low:.1f}, {high:.1f}]"


def points(compared: Comparison, sign: int = 1) -> str:
    """Return a difference in points with its interval: ``+2.1 [-1.0, +5.2]``.

    Args:
        compared: first minus second.
        sign: -1 for second minus first.
    """
    low, high = sorted(100 * sign * end for end in compared["interval"])
    middle = 100 * sign * compared["difference"]
    return f"{middle:+.1f} [{max(low, -100):+.1f}, {min(high, 100):+.1f}]"


def marked(compared: Comparison | None) -> str:
    """Return a difference in points, with a star if it is significant; a dash without one."""
    if compared is None:
        return "–"
    return f"{100 * compared['difference']:+.1f}{' *' if compared['significant'] else ''}"
