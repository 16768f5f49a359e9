"""Order and check a command's words before Hydra reads them, and explain what Hydra refuses."""

import argparse
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from hydra.types import TaskFunction

from advprune.config import from_store, refusals, unknown_options, word_refusals
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


def understand(arguments: list[str], main: TaskFunction) -> tuple[list[str], list[str]]:
    """Return a command's flags and words, ordered and checked; a mistake ends it with a sentence.

    Args:
        arguments: of the process, without the script.
        main: the script's function, by whose file ``conf/`` is found.
    """
    if NOT_OURS & set(arguments):
        return [], list(arguments)
    try:
        flags, words = in_order(arguments)
        vocabulary = _vocabulary(main, flags)
        multirun = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in words
        if vocabulary.command == "attack":
            words = from_store.expand(words, multirun=multirun)
        overrides = read(words, vocabulary, multirun=multirun)
        if any(override.is_add() or override.is_force_add() for override in overrides):
            unknown_options.check_added(overrides, vocabulary)
    except UserError as error:
        _end(str(error))
    first_rank = environment.launched_world()[0] == 0  # the others would say it again
    for sentence in given_twice(overrides) if first_rank else ():
        print(f"note: {sentence}", file=sys.stderr)  # noqa: T201
    return flags, words


@contextmanager
def explained(words: list[str], main: TaskFunction) -> Iterator[None]:
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


def _sentence(error: Exception, words: list[str], main: TaskFunction) -> str | None:
    # Hydra's of a missing file is an OSError
    message = refusals.sentence(error, words, _vocabulary(main, sys.argv[1:]))
    return system_sentence(error) if message is None and isinstance(error, OSError) else message


def _vocabulary(main: TaskFunction, flags: list[str]) -> Vocabulary:
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


def in_order(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separate the flags of a command, with their values, from its words, in any order.

    Raises:
        UserError: on a flag that does not exist, and on flags that exclude each other.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    flags = parser._option_string_actions
    for at, argument in enumerate(arguments):
        if argument.startswith("-") and argument.partition("=")[0] not in flags:
            raise UserError(word_refusals.no_flag(argument, arguments[at + 1 :], list(flags)))
    try:
        parsed = parser.parse_intermixed_args(arguments)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(
            f"the flags of this command cannot be read: {error}; --help shows them"
        ) from None
    _check_flags(parsed)
    words = list(parsed.overrides)
    left = list(arguments)
    for word in words:
        left.remove(word)
    return left, words


def _check_flags(parsed: argparse.Namespace) -> None:
    """Refuse flags that exclude each other."""
    if parsed.multirun and parsed.cfg:
        raise UserError(
            "--cfg prints the options of one job, and -m asks for a grid: leave out -m, with one "
            "value each"
        )
    if parsed.resolve and not parsed.cfg:
        raise UserError(
            "--resolve fills in the references of what --cfg prints: write --cfg job --resolve"
        )
    modes = (parsed.run, parsed.multirun, parsed.shell_completion)
    if sum([*modes, parsed.cfg is not None, parsed.info is not None]) > 1:
        raise UserError("-m, --run, --cfg, --info and -sc exclude each other: give one of them")


def read(words: list[str], vocabulary: Vocabulary, *, multirun: bool) -> list[Override]:
    """Parse the words of a command.

    Args:
        words: without flags.
        vocabulary: of the command.
        multirun: whether a word may have several values.

    Raises:
        UserError: about the first word that cannot be meant so.
    """
    parse = OverridesParser.create().parse_override
    overrides = []
    for place, word in enumerate(words):
        after = words[place + 1 :]
        if "=" not in word and not word.startswith("~"):
            raise UserError(word_refusals.bare(word, after, vocabulary))
        name, _, value = word.partition("=")
        if name != name.rstrip() or (not value and after and "=" not in after[0]):
            joined = f"{name.strip()}={value.strip() or (after[0] if after else '…')}"
            raise UserError(f"there is a space beside = in {name.strip()}=: write {joined}")
        if not name:
            raise UserError(f"{word} names no option: write NAME{word}, without a space before =")
        if not value and "=" in word:
            members = vocabulary.usable_groups.get(name)
            raise UserError(
                f"{word} has no value: "
                + (
                    f"{name} is one of {', '.join(members)}"
                    if members
                    else f"give one, or {name}=null for none"
                )
            )
        try:
            override = parse(word)
            list(override.sweep_string_iterator() if override.is_discrete_sweep() else ())
        except (HydraException, ValueError, AttributeError):
            raise UserError(word_refusals.unreadable(name, value)) from None
        _check(word, override, vocabulary, multirun=multirun)
        overrides.append(override)
    return overrides


def _check(word: str, override: Override, vocabulary: Vocabulary, *, multirun: bool) -> None:
    name = override.key_or_group
    if override.is_delete():
        if not name.startswith("hydra."):
            raise UserError(word_refusals.deleted(word, name, vocabulary))
        return
    if override.is_sweep_override() and not multirun:
        value = word.partition("=")[2]
        raise UserError(
            f"{word} has several values: add -m for one job of each, or write {name}=[{value}] for "
            f"one list, or {word_refusals.quoted(name, value)} for one text"
        )
    if override.is_sweep_override() and (twice := _twice(override)):
        raise UserError(f"{word} asks for {twice} twice: give each value once")
    if isinstance(members := override.value(), list) and name in vocabulary.groups:
        _check_members(word, name, members, vocabulary)
    group = name.replace(".", "/")
    for value in _values(override):
        if "/" not in name and "." in name and value in vocabulary.groups.get(group, ()):
            raise UserError(
                f"{word} would put a text where a group has its members: write {group}={value}"
            )
        if value not in vocabulary.groups.get(name, (value,)):
            sentence = word_refusals.wrong_member(vocabulary, name, value)
            if sentence:
                raise UserError(sentence)


def _check_members(word: str, group: str, members: list[object], vocabulary: Vocabulary) -> None:
    """Refuse a list of a group's members with one twice, or with one that does not exist."""
    for member in map(str, members):
        sentence = word_refusals.wrong_member(vocabulary, group, member)
        if sentence:
            raise UserError(sentence)
        if list(map(str, members)).count(member) > 1:
            raise UserError(f"{word} names {member} twice: give each {group} once")


def _values(override: Override) -> Iterator[str]:
    """Yield the words among an override's values; numbers, lists and globs are no members."""
    value = override.value()
    for one in value.list if isinstance(value, ChoiceSweep) else [value]:
        if isinstance(one, str | int):
            yield str(one)


def _twice(override: Override) -> str | None:
    if not override.is_discrete_sweep():
        return None
    values = list(override.sweep_string_iterator())
    return next((value for value in values if values.count(value) > 1), None)


def given_twice(overrides: list[Override]) -> Iterator[str]:
    """Yield a sentence for each option with two values, of which the last counts."""
    last: dict[str, Override] = {}
    for override in overrides:
        name = override.get_key_element().lstrip("+")
        if name in last and last[name].input_line != override.input_line:
            yield (
                f"{name} is given twice: {override.input_line} counts, and {last[name].input_line} "
                "does not"
            )
        last[name] = override
