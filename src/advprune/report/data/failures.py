"""Pick the part of a failure's text that names its cause, as one line for a user."""

import re

TRACEBACK = "Traceback (most recent call last):"
#: A line that only announces the next one.
ANNOUNCES = re.compile(r":$|^\S*(Error|Exception)$")


def cause(failure: str) -> str:
    """Return the first line of the last exception's message.

    A line that only announces the next one (``ValueError:``) is joined with it.

    Args:
        failure: a sentence, or a traceback. The message of its last exception may have many lines,
            and hold another process's traceback.
    """
    lines = failure.strip().splitlines()
    last = max((place for place, line in enumerate(lines) if TRACEBACK in line), default=-1)
    message = [
        line.strip()
        for line in _after_frames(lines[last + 1 :], is_traceback=last >= 0)
        if line.strip()
    ]
    picked = message[:1] or ["failed without a message"]
    for line in message[1:3]:
        if not ANNOUNCES.search(picked[-1]):
            break
        picked.append(line)
    return " ".join(picked)


def _after_frames(lines: list[str], *, is_traceback: bool) -> list[str]:
    """Return the lines from the exception on: the frames of a traceback are indented."""
    first = (
        next((place for place, line in enumerate(lines) if line[:1].strip()), 0)
        if is_traceback
        else 0
    )
    return lines[first:]
