"""Check a command's words before Hydra reads them, and explain in a sentence what Hydra refuses."""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from advprune.config import command_line, refusals
from advprune.config.schema import Vocabulary
from advprune.distributed import environment
from advprune.errors import UserError, system_sentence

#: With these the words are somebody else's: a shell's that completes them, or none.
NOT_OURS = {
    "-sc",
    "--shell-completion",
    "--version",
    "--help",
    "-h",
    "--hydra-help",
    "--experimental-rerun",
}
#: Hydra raises its errors where it would print them otherwise; a user who sets it sees a traceback.
RAISES = "HYDRA_FULL_ERROR"


def understand(arguments: list[str], main: Any) -> tuple[list[str], list[str]]:
    """Return a command's flags and words, ordered and checked; a mistake ends it with a sentence.

    Args:
        arguments: of the process, without the script.
        main: the script's function, by whose file ``conf/`` is found.
    """
    if NOT_OURS & set(arguments):
        return [], list(arguments)
    try:
        flags, words = command_line.in_order(arguments)
        vocabulary = _vocabulary(main, flags)
        multirun = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in words
        overrides = command_line.read(words, vocabulary, multirun=multirun)
        if any(override.is_add() or override.is_force_add() for override in overrides):
            refusals.check_added(overrides, vocabulary)
    except UserError as error:
        _end(str(error))
    first_rank = environment.launched_world()[0] == 0  # the others would say it again
    for sentence in command_line.given_twice(overrides) if first_rank else ():
        print(f"note: {sentence}", file=sys.stderr)  # noqa: T201
    return flags, words


@contextmanager
def explained(words: list[str], main: Any) -> Iterator[None]:
    """Inside, end the process with one sentence on what Hydra, a launcher or the machine refuses.

    A defect passes, with its traceback.
    """
    before = os.environ.get(RAISES)
    os.environ[RAISES] = "1"
    try:
        yield
    except Exception as error:
        message = _sentence(error, words, main)
        if message is None or before == "1":
            raise
        _end(message)
    finally:
        os.environ[RAISES] = before or "0"


def _sentence(error: Exception, words: list[str], main: Any) -> str | None:
    # Hydra's of a missing file is an OSError
    message = refusals.sentence(error, words, _vocabulary(main, sys.argv[1:]))
    return system_sentence(error) if message is None and isinstance(error, OSError) else message


def _vocabulary(main: Any, flags: list[str]) -> Vocabulary:
    script = Path(inspect.getfile(inspect.unwrap(main))).resolve()
    added = [Path(folder) for flag in ("--config-dir", "-cd") if (folder := _value(flags, flag))]
    return Vocabulary((script.parent / "conf", *added), script.stem)


def _value(flags: list[str], name: str) -> str | None:
    for at, flag in enumerate(flags):
        if flag == name and at + 1 < len(flags):
            return flags[at + 1]
        if flag.startswith(f"{name}="):
            return flag.partition("=")[2]
    return None


def _end(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)  # noqa: T201
    sys.exit(1)
