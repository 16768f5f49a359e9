"""Name a command and its grid for loggers, from what Hydra knows."""

import functools
import hashlib
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from advprune.config.overrides import typed
from advprune.runtime.safe_files import parse_yaml, read_text

#: Words of a command that do not say which grid it is.
ASIDE = ("logger", "trainer", "store", "hydra", "sizes", "export")
#: The longest name of a group; W&B takes 128 characters.
LONGEST = 120


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
    words = next(
        (read for folder in output.parents[:2] if (read := _words(folder / "multirun.yaml"))), ()
    )
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


def _words(path: Path) -> tuple[str, ...]:
    """Return the words in the file that Hydra writes into the grid's folder before any job."""
    return _read_words(path, path.stat().st_mtime_ns) if path.exists() else ()


@functools.lru_cache(maxsize=4)
def _read_words(path: Path, _: int) -> tuple[str, ...]:
    """Read the words once a grid and not once a job: the file has every option there is."""
    try:
        return tuple(
            typed(str(word)) for word in parse_yaml(read_text(path))["hydra"]["overrides"]["task"]
        )
    except (OSError, ValueError, LookupError, TypeError):  # not the file that Hydra writes
        return ()
