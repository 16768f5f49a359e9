"""Attack what was made without repeating its words: ``attack.py from=KEY|FOLDER|GRID``.

Each result in the store has the command that made it. ``from=`` becomes ``stage=KEY`` and the words
of that command; the plan that they give must have a stage of this key, so that another network is
never attacked, nor trained, in its place (``pipeline/plan.py``).
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from advprune.errors import UserError
from advprune.runtime.safe_files import read_json
from advprune.store.checksums import MARK
from advprune.tracking.grid_place import RECORD

#: Kinds of stage that are a network, the last of a job first.
NETWORKS = ("quantized", "finetuned", "pruned", "dense")
#: Kinds of stage that have a network as their parent.
ATTACKED = ("evaluated", "examples")
#: Words of a command that are not of the network that it made; of ``trainer``, these two are.
ASIDE = frozenset(
    {"attack", "store", "hydra", "logger", "tags", "sizes", "export", "report", "stage", "trainer"}
    | {"source", "source_seed", "model@source_model", "source_model"}
)
WEIGHTS = frozenset({"trainer.precision", "trainer.batch_norm"})
STORE = "multirun/stages"
#: How many networks a message lists.
LISTED = 12
_KEY = re.compile(r"[0-9a-f]{2,16}")


def expand(words: Sequence[str], *, multirun: bool) -> list[str]:
    """Return a command's words, with what ``from=`` means in its place.

    Args:
        words: of the command.
        multirun: whether it is a grid; its jobs get their network's words later, ``recorded``.

    Raises:
        UserError: if ``from=`` matches no network, or several without ``-m``; it lists them.
    """
    place = _value(words, "from")
    if place is None:
        return list(words)
    store = Path(_value(words, "store") or STORE).expanduser()
    networks = matching(place, store)
    if len(networks) > 1 and not multirun:
        raise UserError(
            f"from={place} matches {len(networks)} networks: {_listed(networks)}; give one key, or "
            "-m to attack each"
        )
    rest = [word for word in words if not word.startswith("from=")]
    if networks[0].parents[1].resolve() != store.resolve():
        rest.append(f"store={_quoted(str(networks[0].parents[1]))}")
    keys = ",".join(_quoted(network.name) for network in networks)
    expanded = [*rest, f"stage={keys}"]
    return expanded if multirun else recorded(expanded)


def recorded(words: Sequence[str]) -> list[str]:
    """Return a job's words, after those of the command that made the network ``stage=KEY``.

    Words that the job has itself count; those of the attack and of the place are not repeated.
    """
    key = _value(words, "stage")
    if key is None:
        return list(words)
    store = Path(_value(words, "store") or STORE).expanduser()
    given = {_name(word) for word in words}
    (network,) = matching(key, store)
    made = [word for word in words_that_made(network)[2:] if _is_of_network(word)]
    return [*(word for word in made if _name(word) not in given), *words]


def matching(place: str, store: Path) -> list[Path]:
    """Return the folders of the networks that a key, or a folder of a stage, job or grid means.

    Raises:
        UserError: if there is none; it lists those that there are.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        stages = [folder] if (folder / MARK).exists() else list(_of_jobs(folder))
    else:
        stages = list(_of_key(place, store))
    networks = list(dict.fromkeys(map(_network, stages)))
    if networks:
        return networks
    there = [path.parent for kind in NETWORKS for path in sorted((store / kind).glob(f"*/{MARK}"))]
    raise UserError(
        f"from={place} matches nothing: it is the key of a network, or the folder of a stage, a "
        f"job or a grid; {store} has {_listed(there) if there else 'no network'}"
    )


def words_that_made(network: Path) -> list[str]:
    """Return the words of the command that made a network, ``python`` and the script first.

    Raises:
        UserError: if the result does not say it.
    """
    command = read_json(network / "result.json").get("provenance", {}).get("command")
    if not command:
        raise UserError(f"{network} does not say which command made it: give its words")
    return shlex.split(command)


def _of_jobs(folder: Path) -> Iterator[Path]:
    """Yield the stages that the jobs under a folder ended with."""
    for path in sorted(folder.rglob(RECORD)):
        files: dict[str, str] = read_json(path).get("row", {}).get("files", {})
        yield from [Path(files[kind]) for kind in NETWORKS if kind in files][:1]


def _of_key(key: str, store: Path) -> Iterator[Path]:
    """Yield the finished stages whose key begins so."""
    if _KEY.fullmatch(key):
        for kind in (*NETWORKS, *ATTACKED):
            yield from (path.parent for path in sorted((store / kind).glob(f"{key}*/{MARK}")))


def _network(stage: Path) -> Path:
    """Return the network's stage: an evaluation's is the one that it attacked."""
    if stage.parent.name not in ATTACKED:
        return stage
    parent = read_json(stage / "result.json")["parent"]
    folders = (stage.parents[1] / kind / parent for kind in NETWORKS)
    return next(folder for folder in folders if folder.exists())


def _listed(networks: Sequence[Path]) -> str:
    """Return keys and words of networks, for a message."""
    lines = [_described(network) for network in networks[:LISTED]]
    more = len(networks) - LISTED
    return ", ".join(lines) + (f" and {more} more" if more > 0 else "")


def _described(network: Path) -> str:
    words = shlex.join(filter(_is_of_network, words_that_made(network)[2:]))
    return f"{network.parent.name} {network.name} ({words or 'the defaults'})"


def _is_of_network(word: str) -> bool:
    name = _name(word)
    return "=" in word and (name in WEIGHTS or re.split("[./]", name)[0] not in ASIDE)


def _name(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _value(words: Sequence[str], name: str) -> str | None:
    """Return the value of the last word of this name."""
    values = [word.partition("=")[2].strip("'\"") for word in words if word.startswith(f"{name}=")]
    return values[-1] if values else None


def _quoted(text: str) -> str:
    """Return a text that Hydra's grammar takes literally: a key may look like a number."""
    return "'" + text.replace("'", "\\'") + "'"
