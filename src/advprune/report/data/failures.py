"""What of a failure's text a user is told in one line: the part that carries the cause."""

import re

TRACEBACK = "Traceback (most recent call last):"
#: A line that only announces the next one.
OPEN = re.compile(r":$|^\S*(Error|Exception)$")


def cause(failure: str) -> str:
    """Pick the first line of the last exception's message, and the next while they only announce something.

    Args:
        failure: a sentence, or a traceback whose last exception may have a message of many lines,
            and in it another process's traceback.
    """
    lines = failure.strip().splitlines()
    at = max((place for place, line in enumerate(lines) if TRACEBACK in line), default=-1)
    message = [
        line.strip() for line in _after_frames(lines[at + 1 :], framed=at >= 0) if line.strip()
    ]
    told = message[:1] or ["failed without a message"]
    for line in message[1:3]:
        if not OPEN.search(told[-1]):
            break
        told.append(line)
    return " ".join(told)


def _after_frames(lines: list[str], *, framed: bool) -> list[str]:
    """The lines from the exception's own on: frames of a traceback are indented."""
    first = (
        next((place for place, line in enumerate(lines) if line[:1].strip()), 0) if framed else 0
    )
    return lines[first:]
