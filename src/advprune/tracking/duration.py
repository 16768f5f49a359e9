"""Write durations as a person says them."""


def duration(seconds: float) -> str:
    """Return a time as a person would say it: ``46 s``, ``6 min``, ``2 h 10 min``, ``3 days``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    return f"{round(hours / 24)} days"
