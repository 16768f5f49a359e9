"""Order and check the words of a command before Hydra reads them."""

import argparse
import shlex
from collections.abc import Iterator

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException

from advprune.config import schema
from advprune.config.vocabulary import PEERS, Vocabulary, nearest
from advprune.errors import UserError


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
            raise UserError(_no_flag(argument, arguments[at + 1 :], list(flags)))
    try:
        parsed = parser.parse_intermixed_args(arguments)
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(
            f"the flags of this command cannot be read: {error}; --help shows them"
        ) from None
    if parsed.multirun and parsed.cfg:
        raise UserError(
            "--cfg prints the options of one job, and -m asks for a grid: leave out -m, with one "
            "value each"
        )
    if parsed.resolve and not parsed.cfg:
        raise UserError(
            "--resolve fills in the references of what --cfg prints: write --cfg job --resolve"
        )
    if (
        sum(
            [
                parsed.run,
                parsed.multirun,
                parsed.shell_completion,
                parsed.cfg is not None,
                parsed.info is not None,
            ]
        )
        > 1
    ):
        raise UserError("-m, --run, --cfg, --info and -sc exclude each other: give one of them")
    words = list(parsed.overrides)
    left = list(arguments)
    for word in words:
        left.remove(word)
    return left, words


def _no_flag(argument: str, after: list[str], flags: list[str]) -> str:
    name, equals, value = argument.lstrip("-").partition("=")
    if nearest(name, ["multirun"]) and not equals:
        return f"there is no flag {argument}: did you mean -m, or --multirun?"
    for flag in flags:
        if flag.startswith("--") and name.replace("_", "-") == flag.removeprefix("--"):
            return f"there is no flag {argument}: did you mean {flag}?"
    ours, follows = (
        PEERS.get(name.replace("-", "_"), name),
        after[0] if after and "=" not in after[0] else "…",
    )
    message = f"there is no flag {argument}: options are written without dashes and with ="
    return f"{message}, as {ours or 'ratio'}={value or follows}"


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
            raise UserError(_bare(word, after, vocabulary))
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
            raise UserError(_unreadable(name, value)) from None
        _check(word, override, vocabulary, multirun=multirun)
        overrides.append(override)
    return overrides


def _bare(word: str, after: list[str], vocabulary: Vocabulary) -> str:
    follows = after[0] if after and "=" not in after[0] else None
    if after and after[0].startswith("="):
        value = after[0][1:] or (after[1] if len(after) > 1 else "…")
        return f"there is a space beside = in {word} =: write {word}={value}"
    plain = word.removesuffix(".yaml").removesuffix(".yml")
    if word in vocabulary.groups:
        return f"{word} alone chooses nothing: write {word}={follows or vocabulary.groups[word][0]}"
    if plain in vocabulary.groups and plain != word:
        return (
            f"{word} is no option: write {plain}={vocabulary.groups[plain][0]}, or another file of "
            f"conf/{plain}/"
        )
    homes = [group for group, members in vocabulary.usable_groups.items() if plain in members]
    if homes:
        return f"{word} alone says nothing: write {homes[0]}={plain}"
    value = follows or "…"
    if word in PEERS:
        return f"{word} is no option: here it is {PEERS[word]}={value}"
    if word.split(".")[0] in schema.hints(schema.COMMANDS[vocabulary.command]):
        return f"{word} has no value: write {word}={value}"
    return (
        f"{word} is no option: an option is NAME=VALUE, as pruner=hydra or ratio=0.9; --help shows "
        "them all"
    )


def _unreadable(name: str, value: str) -> str:
    return (
        f"{name}={value} cannot be read, for its value has signs that mean something here: write "
        f"{quoted(name, value)}"
    )


def quoted(name: str, value: str) -> str:
    """Quote a word for the shell so that Hydra takes its value literally."""
    inner = value.strip("'\"").replace('"', '\\"')
    return shlex.quote(f'{name}="{inner}"')


def _check(word: str, override: Override, vocabulary: Vocabulary, *, multirun: bool) -> None:
    name = override.key_or_group
    if override.is_delete():
        if not name.startswith("hydra."):
            raise UserError(_deleted(word, name, vocabulary))
        return
    if override.is_sweep_override() and not multirun:
        value = word.partition("=")[2]
        raise UserError(
            f"{word} has several values: add -m for one job of each, or write {name}=[{value}] for "
            f"one list, or {quoted(name, value)} for one text"
        )
    if override.is_sweep_override() and (twice := _twice(override)):
        raise UserError(f"{word} asks for {twice} twice: give each value once")
    group = name.replace(".", "/")
    for value in _values(override):
        if "/" not in name and "." in name and value in vocabulary.groups.get(group, ()):
            raise UserError(
                f"{word} would put a text where a group has its members: write {group}={value}"
            )
        sentence = vocabulary.wrong_member(name, value)
        if sentence:
            raise UserError(sentence)


def _deleted(word: str, name: str, vocabulary: Vocabulary) -> str:
    if name in vocabulary.groups:
        other = f"{name}={vocabulary.groups[name][0]}"
        cure = "train.py prunes nothing" if name == "pruner" else f"choose another, such as {other}"
        return f"{word} takes away what this command needs: {cure}"
    return (
        f"{word} takes an option away, and every option is needed: give {name}=VALUE, or "
        f"{name}=null for none"
    )


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
