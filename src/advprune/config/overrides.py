"""Rewrite the words of a grid as Hydra needs them.

Hydra reads every word that has one value with the default choices first, and refuses
``pruner.criterion.images=48`` there if the default pruner has no such option, whatever
``pruner=filters,blocks`` says. As a choice among one value the word waits for its job, and is read
with that job's pruner.
"""

import re
import shlex
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException


def defer_group_overrides(words: list[str]) -> list[str]:
    """Return the words of a command, those within a swept group as choices among one value."""
    if not {"-m", "--multirun"} & set(words):
        return words
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


def typed(word: str) -> str:
    """Return a word as the user typed it: a choice among one value without ``choice()``."""
    return re.sub(r"=choice\((.*)\)$", r"=\1", word)


def command() -> str:
    """Return the shell command that gives this job alone, also of a job of a grid.

    Outside of a job of Hydra's, as in the process of a rank, it is this process's own.
    """
    if not HydraConfig.initialized():
        return shlex.join(map(typed, sys.argv))
    hydra = HydraConfig.get()
    return shlex.join(["python", f"{hydra.job.name}.py", *map(typed, hydra.overrides.task)])


def _group(override: Override) -> str:
    """Return the group of an override: ``pruner`` of ``pruner/criterion`` and ``pruner.scope``."""
    return re.split("[./@]", override.key_or_group)[0]


def _waiting(word: str, override: Override) -> str:
    if override.is_sweep_override() or override.is_delete():
        return word
    name, value = word.split("=", 1)
    return f"{name}=choice({value})"
