"""Take out of a command what only says where its files lie: the others have other folders."""

import shlex
from pathlib import Path
from typing import Any

#: Options that say where something lies on one machine, and change no result.
PLACES = ("store=", "hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweep.subdir=")


def command_of(result: dict[str, Any]) -> str | None:
    """Return the command that makes a stage again, as anybody may type it; None if unrecorded.

    Args:
        result: a stage's ``result.json``.
    """
    command = recorded_command(result)
    return None if command is None else without_places(command)


def recorded_command(result: dict[str, Any]) -> str | None:
    """Return the command that made a stage, word for word; None if unrecorded.

    Args:
        result: a stage's ``result.json``, which may come from anywhere.
    """
    provenance = result.get("provenance")
    command = provenance.get("command") if isinstance(provenance, dict) else None
    return command if isinstance(command, str) else None


def without_places(command: str) -> str:
    """Return a command without the words that only say where its files lie.

    The script that was called is named without its folder. A command that no shell could read is
    returned as it is.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    kept = [word for word in words if not word.lstrip("+").startswith(PLACES)]
    script = [Path(word).name if word.endswith(".py") else word for word in kept[:2]]
    return shlex.join([*script, *kept[2:]])
