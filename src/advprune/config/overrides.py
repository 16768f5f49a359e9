"""Rewrite a command's words as Hydra needs them.

Of a grid, Hydra reads every word that has one value with the default choices first, and refuses
``pruner.criterion.images=48`` there if the default pruner has no such option, whatever
``pruner=filters,blocks`` says. As a choice among one value the word waits for its job, and is read
with that job's pruner.
"""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

#: Groups with a member for a class of the user's own, named by ``GROUP._target_``.
CUSTOM = ("model", "dataset")


def choose_custom(words: list[str]) -> list[str]:
    """Return the words of a command, with the member ``custom`` where one names its own target.

    ``model._target_=my.module.Net model.depth=3`` needs no YAML: ``depth`` is an option of ``Net``,
    and none of the default network's is given to it.
    """
    own = [group for group in CUSTOM if any(w.startswith(f"{group}._target_=") for w in words)]
    own = [group for group in own if not any(w.startswith(f"{group}=") for w in words)]
    added = [f"++{word}" if word.split(".")[0] in own else word for word in words]
    return [*(f"{group}=custom" for group in own), *added]


def defer_group_overrides(words: list[str]) -> list[str]:
    """Return a grid's words, those within a swept group as choices among one value."""
    parse = OverridesParser.create().parse_override
    try:
        read = {word: parse(word) for word in words if "=" in word and not word.startswith("-")}
    except HydraException:  # Hydra will say what is wrong
        return words
    swept = {o.key_or_group for o in read.values() if o.is_sweep_override()}
    return [
        _waiting(word, read[word]) if word in read and _group(read[word]) in swept else word
        for word in words
    ]


def _group(override: Override) -> str:
    """Return the group of an override: ``pruner`` of ``pruner/criterion`` and ``pruner.scope``."""
    return re.split("[./@]", override.key_or_group)[0]


def _waiting(word: str, override: Override) -> str:
    if override.is_sweep_override() or override.is_delete():
        return word
    name, value = word.split("=", 1)
    return f"{name}=choice({value})"
