"""A null, a deleted option and the default of a signature: what calls the same has one key, what does not has two."""

import inspect
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from plain_options import PlainOptions

from advprune.config.groups import HARNESS, declared_fields
from advprune.config.validate import RESERVED
from advprune.store.keys import TARGET, WHERE, identity
from advprune.store.signatures import bound, defaults
from advprune.store.stage import JOBS, Stage

CONF = Path(__file__).parents[1] / "conf"
#: Groups whose options decide results; the others say where and how visibly a job runs.
GROUPS = ("attack", "dataset", "model", "objective", "pruner", "quantizer", "threat")


def _nodes(
    node: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get(TARGET) not in (None, "???"):  # "???" is the user's own
            yield path, node
        for name, inner in node.items():
            yield from _nodes(inner, (*path, name))


def _targets() -> Iterator[Any]:
    for group, file in itertools.chain.from_iterable(
        (((g, f) for f in sorted((CONF / g).rglob("*.yaml")))) for g in GROUPS
    ):
        whole = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        whole.pop("defaults", None)
        for path, node in _nodes(whole):
            yield pytest.param(
                group if not path else "", node, id=".".join([str(file.relative_to(CONF)), *path])
            )


def _key(group: str, node: dict[str, Any]) -> Any:
    return identity("dense", Stage("dense", PlainOptions({group or "node": node})).record)


def _called(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """The slow reference: what the imported signature is called with; beside it, what the frame reads."""
    parameters = inspect.signature(get_object(node[TARGET])).parameters
    harness = (
        {field.name for field in declared_fields(HARNESS[group])} if group in HARNESS else set()
    )
    frame = (harness - parameters.keys()) | RESERVED
    known = {name: own.default for name, own in parameters.items() if own.default is not own.empty}
    # of an argument without a default, null and nothing are one: the frame gives it, or the door
    # refuses both
    given = {
        name: value
        for name, value in node.items()
        if name not in frame and (value is not None or name in known)
    }
    beside = {
        name: value
        for name, value in node.items()
        if name in frame and name != TARGET and value is not None
    }
    return {name: value for name, value in (known | given).items() if name not in JOBS} | {
        "": beside
    }


@pytest.mark.parametrize(("group", "node"), list(_targets()))
def test_an_option_removed_or_null_has_the_same_key_only_if_the_same_is_called(
    group: str, node: dict[str, Any]
) -> None:
    parameters = inspect.signature(get_object(node[TARGET])).parameters
    own = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    told = defaults(node[TARGET])
    assert told.keys() == own.keys()
    assert {name: told[name] for name in own if not callable(own[name])} == {
        n: v for n, v in own.items() if not callable(v)
    }
    for name in [*node, *own]:
        if (
            name == TARGET
            or (group == "dataset" and name not in parameters)
            or name in JOBS | WHERE
        ):
            continue
        without = {option: value for option, value in node.items() if option != name}
        variants = [
            without,
            node | {name: None},
            *([without | {name: own[name]}] if name in own and not callable(own[name]) else []),
        ]
        for one, other in itertools.combinations(variants, 2):
            same_key = _key(group, one) == _key(group, other)
            assert same_key == (_called(group, one) == _called(group, other)), name


@pytest.mark.parametrize("criterion", ["kl", "cka", "hrank", "taylor", "pls"])
def test_all_images_and_the_number_of_the_signature_are_two_keys(criterion: str) -> None:
    node = OmegaConf.to_container(
        OmegaConf.load(CONF / "pruner" / "criterion" / f"{criterion}.yaml")
    )
    deleted = {name: value for name, value in node.items() if name != "images"}
    keys = [
        Stage("pruned", PlainOptions({"pruner": {"criterion": own}})).key
        for own in (node | {"images": None}, deleted)
    ]
    assert keys[0] != keys[1]


def test_what_source_does_not_tell_is_imported() -> None:
    """A dataclass's ``__init__`` is written by its decorator."""
    assert defaults("advprune.modules.recipe.Recipe")["momentum"] == 0.9
    assert defaults("no.such.module") == defaults("unqualified") == {}
    assert bound({TARGET: "no.such.module", "a": None, "b": 1}) == {
        TARGET: "no.such.module",
        "b": 1,
    }


def test_the_keys_of_every_member_need_no_torch() -> None:
    """A finished job is told in a second: nothing that is named is imported for its key."""
    names = sorted({param.values[1][TARGET] for param in _targets()})
    code = f"""
import sys
from advprune.store.signatures import defaults
print([name for name in {names!r} if defaults(name) is None or "torch" in sys.modules])
"""
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )
