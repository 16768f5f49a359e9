"""Turn what Hydra and OmegaConf refuse into one sentence with the nearest right word."""

from collections.abc import Iterator
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from advprune.config.peer_sentences import sentence_on
from advprune.config.peers import PEERS, nearest
from advprune.config.schema import COMMANDS, Vocabulary, annotation_of
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


def check_added(overrides: list[Override], vocabulary: Vocabulary) -> None:
    """Refuse ``+lr=0.1``, which Hydra takes and nothing reads.

    Raises:
        UserError: naming the option that is probably meant.
    """
    added = [override for override in overrides if override.is_add() or override.is_force_add()]
    known = known_options(vocabulary, overrides)
    for override in added:
        name = override.key_or_group
        root = name.split(".")[0].split("/")[0]
        # GROUP@PLACE puts a group's member where there is none, such as a parent's objective
        if override.is_hydra_override() or override.package is not None:
            continue
        if override.is_add() and (name in known or name in vocabulary.groups):
            raise UserError(
                f"{override.input_line} adds an option that is there: write it without +"
            )
        if root not in known and name not in vocabulary.groups:
            raise UserError(unknown_option(name, known, vocabulary))


def known_options(vocabulary: Vocabulary, overrides: list[Override]) -> dict[str, Any]:
    """Return every option of the command with its default, by its dotted name.

    The words decide which members of the groups are asked.
    """
    chosen = [o for o in overrides if o.key_or_group in vocabulary.groups and not o.is_delete()]
    singles = [f"{o.get_key_element().lstrip('+')}={_first(o)}" for o in chosen]
    for words in (singles, []):
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(vocabulary.folders[0]), version_base="1.3"):
                cfg = compose(vocabulary.command, words)
            return dict(_flat(OmegaConf.to_container(cfg, resolve=False), ""))
        except (HydraException, OmegaConfBaseException):
            continue
        finally:
            GlobalHydra.instance().clear()
    return {}


def _first(override: Override) -> str:
    if override.is_discrete_sweep():
        return next(iter(override.sweep_string_iterator()))
    return str(override.get_value_element_as_str())


def _flat(node: object, path: str) -> Iterator[tuple[str, Any]]:
    if path:
        yield path, node
    if isinstance(node, dict):
        for name, value in node.items():
            if not str(name).startswith("_"):
                yield from _flat(value, f"{path}.{name}" if path else str(name))


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


def unknown_option(name: str, known: Node, vocabulary: Vocabulary) -> str:
    """Return a sentence saying that an option does not exist, and which one may be meant."""
    place = f"{vocabulary.command}.py has no option {name}"
    sentence = sentence_on(name)
    if sentence is not None:
        return f"{place}: {sentence}"
    peer = PEERS.get(name)
    if peer and (peer in known or peer in vocabulary.groups):
        return (
            f"{place}: here it is {peer}=…"
            if peer != "ratio"
            else f"{place}: here it is ratio=…, the share removed"
        )
    outer, _, last = name.rpartition(".")
    if name == "checkpoint":
        return (
            f"{place}: only attack.py reads one; to start from weights write dense=FILE in prune.py"
        )
    if outer and outer not in known and outer.split(".")[0] not in known:
        meant = nearest(
            outer.split(".")[0], [*vocabulary.groups, *(n for n in known if "." not in n)]
        )
        return (
            f"{place}: did you mean {meant}.{name.partition('.')[2]}?"
            if meant
            else f"{place}; --help shows them all"
        )
    siblings = [n.rpartition(".")[2] for n in known if n.rpartition(".")[0] == outer]
    elsewhere = [n for n in known if n.rpartition(".")[2] == last and n != name]
    meant = nearest(last, [*siblings, *(vocabulary.groups if not outer else ())])
    if meant:
        return f"{place}: did you mean {f'{outer}.{meant}' if outer else meant}?"
    if elsewhere:
        return f"{place}: did you mean {' or '.join(elsewhere[:3])}?"
    if outer:
        return (
            f"{place}: {outer} has {', '.join(siblings)}"
            if siblings
            else f"{place}: {outer} has no options inside it"
        )
    return f"{place}; --help shows them all"


def _elsewhere(group: str) -> str:
    return "prune.py has it" if group.split("/")[0] == "pruner" else "--help shows its groups"
