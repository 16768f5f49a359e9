"""Find the options that a command's words name and nothing reads, and say which are meant."""

from collections.abc import Iterator
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from advprune.config.peer_sentences import sentence_on
from advprune.config.peers import PEERS, nearest
from advprune.config.schema import Vocabulary
from advprune.errors import UserError
from advprune.store.keys import Node


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
