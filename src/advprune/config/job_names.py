"""Name a job and its grid by the words of the command, and give the command that makes it again."""

import functools
import hashlib
import re
import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from advprune.config.overrides import CUSTOM
from advprune.ranges import number
from advprune.runtime.installation import IN_WHEEL
from advprune.runtime.safe_files import parse_yaml, read_text
from advprune.store import keys

#: Words of a command that do not say which grid it is.
ASIDE = ("logger", "trainer", "store", "hydra", "sizes", "export", "tags")
#: The longest name of a group; W&B takes 128 characters.
LONGEST = 120
#: A float with more digits than a person writes: what a range steps to, such as 0.9600000000000001.
_SWEPT = re.compile(r"\d*\.\d{12,}(e[-+]?\d+)?", re.IGNORECASE)
#: The group whose label names an option outside the groups.
LABEL_OF = {
    "training": "objective",
    "select": "objective",
    "trainer": "objective",
    "search": "pruner",
    "finetune": "pruner",
}
#: In the order they are checked: other groups repeat the threat.
GROUPS = ("threat", "dataset", "model", "objective", "pruner", "quantizer", "attack")


def unescaped(word: str) -> str:
    """Return a word as it was typed: no ``choice()`` of one value, ``${…}`` without escapes."""
    plain = re.sub(r"=choice\((.*)\)$", r"=\1", word)
    return re.sub(r"\$\\{(.*?)\\}", lambda found: f"${{{found[1].replace(chr(92), '')}}}", plain)


def command() -> str:
    """Return the shell command that gives this job alone, also of a job of a grid.

    Outside of a job of Hydra's, as in the process of a rank, it is this process's own.
    """
    if not HydraConfig.initialized():
        return shlex.join(map(unescaped, sys.argv))
    hydra = HydraConfig.get()
    name = str(hydra.job.name)
    program = ["advprune", name] if IN_WHEEL.is_dir() else ["python", f"{name}.py"]
    return shlex.join([*program, *map(unescaped, hydra.overrides.task)])


def command_name() -> str:
    """Return the name of this job's command: train, prune or attack."""
    return str(HydraConfig.get().job.name)


def grid_name(output: Path) -> str | None:
    """Return the words of the grid's command, the same when it is given again; None of a lone job.

    A long name is cut and numbered.

    Args:
        output: the job's folder, in the one that Hydra writes the grid's ``multirun.yaml`` into
            before the first job; a job that was launched as a process of its own lies there, too.
    """
    hydra = HydraConfig.get()
    words = _grid_words(output)
    if not words:
        return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None
    naming = [
        word
        for word in words
        if word.lstrip("+~").split("=")[0].replace("/", ".").split(".")[0] not in ASIDE
    ]
    whole = " ".join([str(hydra.job.name), *sorted(naming)])
    if len(whole) <= LONGEST:
        return whole
    number = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST - len(number) - 2]}… {number}"


def _grid_words(output: Path) -> tuple[str, ...]:
    """Return the words of the grid that a job's folder lies in; none of a lone job."""
    return next(
        (read for folder in output.parents[:2] if (read := _words(folder / "multirun.yaml"))), ()
    )


def _words(path: Path) -> tuple[str, ...]:
    """Return the words in the file that Hydra writes into the grid's folder before any job."""
    return _read_words(path, path.stat().st_mtime_ns) if path.exists() else ()


@functools.lru_cache(maxsize=4)
def _read_words(path: Path, _: int) -> tuple[str, ...]:
    """Read the words once a grid and not once a job: the file has every option there is."""
    try:
        words = parse_yaml(read_text(path))["hydra"]["overrides"]["task"]
        return tuple(unescaped(str(word)) for word in words)
    except (OSError, ValueError, LookupError, TypeError):  # not the file that Hydra writes
        return ()


def names(output: Path) -> dict[str, str]:
    """Return the chosen member of each group, with changed options: ``resnet20 depth=32``.

    An option outside the groups, such as ``finetune.epochs``, is named where the grid varies it:
    else two jobs would have one name, and one row of the table.

    Args:
        output: the job's folder, see ``grid_name``.
    """
    hydra, words = HydraConfig.get(), _grid_words(output)
    chosen = {
        group: str(hydra.runtime.choices.get(group))
        for group in GROUPS
        if hydra.runtime.choices.get(group)
    }
    if hydra.runtime.choices.get("model@source_model"):
        chosen["source_model"] = str(hydra.runtime.choices["model@source_model"])
    for override in hydra.overrides.task:
        name, _, value = override.lstrip("+").partition("=")
        value = shown(value)
        outer, _, inner = name.partition("/")
        if inner and outer in chosen:  # a group within a group: filters hrank
            chosen[outer] += f" {value}"
        group, _, option = name.partition(".")
        if option == "_target_" and group in CUSTOM and chosen.get(group):
            chosen[group] = chosen[group].replace("custom", value.rpartition(".")[2], 1)
            continue
        if option and group in chosen and option not in keys.WHERE:  # a path names nothing
            chosen[group] += f" {option}={value}"
        label = LABEL_OF.get(group)
        if label in chosen and words and unescaped(override) not in words:
            chosen[label] += f" {name}={value}"
    return chosen


def shown(value: str) -> str:
    """Return a value as a person would write it: ``0.96`` for a swept ``0.9600000000000001``."""
    return _SWEPT.sub(lambda digits: str(number(digits[0])), value)
