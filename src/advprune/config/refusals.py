"""Turn what Hydra and OmegaConf refuse into one sentence with the nearest right word."""

from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from advprune.config.peers import nearest
from advprune.config.schema import COMMANDS, Vocabulary, annotation_of
from advprune.config.unknown_options import known_options, unknown_option
from advprune.config.word_refusals import wrong_member
from advprune.errors import UserError
from advprune.ranges import range_error
from advprune.store.keys import Node


def sentence(error: BaseException, words: list[str], vocabulary: Vocabulary) -> str | None:
    """Return one sentence on an error that Hydra raised; None if the error is a defect.

    Args:
        error: with its causes.
        words: of the command, without flags.
        vocabulary: of the command.
    """
    chain = list(_chain(error))
    user_error = next((cause for cause in chain if isinstance(cause, UserError)), None)
    if user_error is not None:
        return str(user_error)
    missing = next((cause for cause in chain if isinstance(cause, MissingConfigException)), None)
    if missing is not None:
        return _missing(missing, vocabulary)
    library = [
        cause for cause in chain if isinstance(cause, HydraException | OmegaConfBaseException)
    ]
    if not library:
        return None
    text = str(library[0])
    if text.startswith("error: "):  # a launcher's or sweeper's, of ours
        return text.removeprefix("error: ")
    return wrong_word(words, vocabulary) or _in_short(library)


def _chain(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _in_short(library: list[Any]) -> str:
    """Return the libraries' first lines that say something."""
    for cause in reversed(library):
        if isinstance(cause, InterpolationKeyError):
            return (
                f"{cause.full_key} refers to an option that does not exist ({_first_line(cause)}): "
                "give its value"
            )
    lines = [line for cause in library if (line := _first_line(cause))]
    return f"these words do not fit together: {'; '.join(dict.fromkeys(lines))}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _missing(error: MissingConfigException, vocabulary: Vocabulary) -> str:
    group, _, member = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        meant = nearest(member, COMMANDS)
        hint = f"did you mean {meant}? " if meant else ""
        return (
            f"--config-name={member} is not known: {hint}this command's own is "
            f"{vocabulary.command}; leave the flag out"
        )
    message = wrong_member(vocabulary, group, member)
    if message:
        return message
    options = [str(option) for option in error.options or ()]
    meant = nearest(member, options)
    hint = f"did you mean {group}={meant}? " if meant else ""
    return f"{group}={member} is not known: {hint}{group} is one of {', '.join(options) or 'none'}"


def wrong_word(words: list[str], vocabulary: Vocabulary) -> str | None:
    """Return a sentence about the first word that the options have no place for."""
    parse = OverridesParser.create().parse_override
    overrides = [parse(word) for word in words]
    known = known_options(vocabulary, overrides)
    for override in overrides:
        message = _misplaced(override, known, vocabulary)
        if message:
            return message
    return None


def _misplaced(override: Override, known: Node, vocabulary: Vocabulary) -> str | None:
    name = override.key_or_group
    if override.is_hydra_override():
        return None
    if override.package is not None and name not in vocabulary.groups:
        return unknown_option(name, known, vocabulary)
    if name in vocabulary.groups:
        if name not in vocabulary.usable_groups:
            return f"{vocabulary.command}.py has no {name}: {_elsewhere(name)}"
        if "/" in name and not override.is_add():
            outer = name.rpartition("/")[0]
            return (
                f"{override.input_line} goes with a member of {outer} that lets one choose it, "
                f"such as {outer}=filters"
            )
        return None
    if name not in known:
        return (
            None
            if override.is_add() or override.is_force_add()
            else unknown_option(name, known, vocabulary)
        )
    annotation = annotation_of(vocabulary.command, name)
    if annotation is None:
        return None
    messages = (range_error(name, value, annotation) for value in _values(override))
    return next((message for message in messages if message), None)


def _values(override: Override) -> list[Any]:
    """Return an override's values as Hydra reads them: numbers, not their digits."""
    if not override.is_discrete_sweep():
        return [override.value()]
    parse = OverridesParser.create().parse_override
    return [parse(f"value={text}").value() for text in override.sweep_string_iterator()]


def _elsewhere(group: str) -> str:
    return "prune.py has it" if group.split("/")[0] == "pruner" else "--help shows its groups"
