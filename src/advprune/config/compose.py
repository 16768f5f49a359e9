"""Compose a grid's jobs quickly: jobs that differ in plain values only share one composition.

Hydra reads and merges some thirty YAML files for each job, a tenth of a second. What a grid varies
is mostly values (``ratio=0.9,0.99 seed=0,1``), and Hydra itself puts these in last, with
``OmegaConf.update``: so does this. Everything else (groups, ``+`` and ``~``, dicts, values inside
of one another) is left to Hydra, once for each different choice.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """Compose jobs one after the other; each call changes what the call before returned.

    Args:
        loader: Hydra's.
        master: the composed options of the ``-m`` command itself.
        jobs: the overrides of each job; what all of them say is not varied.
    """

    def __init__(
        self, loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
    ) -> None:
        self._loader, self._master = loader, master
        self._said_by_all = set.intersection(*map(set, jobs)) if jobs else set()
        self._shared: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        self._parsed = cache(OverridesParser.create(config_loader=loader).parse_override)
        self._is_group = cache(lambda name: bool(loader.get_group_options(name, None)))

    def __call__(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """Return one job's options, and the whole that ``HydraConfig`` has of it.

        Raises:
            ConfigCompositionException: Hydra's own, of options that cannot be composed.
        """
        parsed = [self._parsed(text) for text in overrides]
        names = [override.key_or_group for override in parsed]
        plain = [override for override in parsed if self._is_plain(override, names)]
        rest = [
            text for text, override in zip(overrides, parsed, strict=True) if override not in plain
        ]
        varied = [override.key_or_group for override in plain]
        shared = (*rest, "", *varied)
        if shared not in self._shared:
            self._shared[shared] = _apart(self._loader.load_sweep_config(self._master, rest))
            _resolve(self._shared[shared][0], varied)
        options, whole = self._shared[shared]
        try:
            for override in plain:
                OmegaConf.update(options, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra says it in its own words; were it content after all, this is what it composed
            return _apart(self._loader.load_sweep_config(self._master, list(overrides)))
        whole.hydra.overrides.task = [o.input_line for o in parsed if not o.is_hydra_override()]
        return options, whole

    def _is_plain(self, override: Override, names: list[str]) -> bool:
        """Return whether an override only sets one option, that no other override touches."""
        name = override.key_or_group
        if override.input_line in self._said_by_all:
            return False
        if override.package is not None or override.is_hydra_override() or self._is_group(name):
            return False
        if override.is_add() or override.is_force_add() or override.is_delete():
            return False
        near = [
            other
            for other in names
            if f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.")
        ]
        return len(near) == 1 and not isinstance(override.value(), dict | list)


def _apart(whole: DictConfig) -> tuple[DictConfig, DictConfig]:
    """Separate the job's own options, as a task gets them, from all of Hydra's."""
    options = copy.deepcopy(whole)
    with open_dict(options):
        del options["hydra"]
    OmegaConf.set_readonly(whole.hydra, False)
    return options, whole


def _resolve(options: DictConfig, varied: list[str]) -> None:
    """Resolve the references once for all jobs, if none of them can be to what the jobs vary."""
    text = " ".join(_references(OmegaConf.to_container(options, resolve=False)))
    if not {"hydra", *(part for name in varied for part in name.split("."))} & set(
        re.findall(r"\w+", text)
    ):
        with suppress(OmegaConfBaseException):  # the job says it
            OmegaConf.resolve(options)


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _references(child)
    elif isinstance(node, str) and "${" in node:
        yield node
