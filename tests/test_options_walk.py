"""Every option of every file of conf/ with values it cannot have: refused in a sentence, or meaningful."""

import collections
import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT
from presets import options

from advprune.config import validate
from advprune.config.job_names import GROUPS
from advprune.config.options import options_of
from advprune.errors import UserError
from advprune.pipeline.dry_run import dry_run

CONF = ROOT / "conf"
BAD: list[Any] = [
    -1,
    -0.5,
    0,
    10**30,
    1e300,
    math.nan,
    math.inf,
    -math.inf,
    "nonsense",
    "",
    [],
    [1],
    {},
    True,
    None,
]
#: What says where something lies or what it is called: any text is one, and whether it is there is
#: asked elsewhere.
NAMES = {
    *(
        "name",
        "files",
        "root",
        "content",
        "cache",
        "extra",
        "test",
        "perturbation",
        "store",
        "source",
        "project",
    ),
    *("entity", "folder", "dense", "checkpoint", "content_id", "source_model", "group"),
}
NEEDS = {
    "pruner/filters": ["ratio=0.5"],
    "pruner/hydra_filters": ["ratio=0.5"],
    "pruner/harp_filters": ["ratio=0.5"],
    "pruner/radmm_filters": ["ratio=0.5"],
    "pruner/twin_rep_filters": ["ratio=0.5"],
    "pruner/blocks": ["ratio=0.3", "model=resnet20"],
    "attack/certify_smoothing": ["threat=l2"],
    "model/custom": ["model._target_=networks.OwnNet"],
    "dataset/custom": [
        "dataset._target_=advprune.datasets.digits.Digits",
        "dataset.num_classes=10",
        "dataset.channels=1",
        "dataset.image_size=8",
    ],
}
#: The group's own files; published_corruptions wants a folder of the user's, and a data set what it
#: downloads.
FILES = sorted(
    path.relative_to(CONF).with_suffix("").as_posix()
    for group in (*GROUPS, "trainer", "logger", "pruner/criterion")
    for path in (CONF / group).glob("*.yaml")
    if path.stem not in ("frame", "base", "published_corruptions", "none")
)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of a node's plain values and lists."""
    if not isinstance(node, dict):
        yield path
        return
    for name, value in node.items():
        if not str(name).startswith("_") and name not in NAMES:
            yield from leaves(value, (*path, name))


def put(given: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(given)
    node: Any = changed
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return changed


def checked(given: dict[str, Any], changed: str | None = None) -> None:
    """All signatures, or those of the group that was changed and of the attack, which has the threat's eps."""
    groups = [g for g in (*GROUPS, "logger") if changed is None or g in (changed, "attack")]
    validate.check_numbers(given)
    validate.check_signatures(given, tuple(groups))


def outcome(given: dict[str, Any], changed: str, *, whole: bool) -> str:
    """``refused``, ``accepted``, or what went wrong; everything else than UserError is a defect and gets through."""
    begun = time.monotonic()
    try:
        checked(given, changed)
        if whole:
            dry_run(options_of(given))
        told = "accepted"
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence, sentence
        assert len(sentence) > 20, sentence
        told = "refused"
    assert time.monotonic() - begun < 15
    return told


def _walk(file: str, *, whole: bool) -> collections.Counter[str]:
    group, member = file.rsplit("/", 1)
    words = (
        ["pruner=filters", f"{group}={member}", "ratio=0.5"]
        if "/" in group
        else [f"{group}={member}", *NEEDS.get(file, [])]
    )
    base = options("prune", "trainer=cpu", *words)
    checked(base)
    top = group.split("/")[0]
    node = base[top]["criterion"] if "/" in group else base[top]
    start = (top, "criterion") if "/" in group else (top,)
    counts: collections.Counter[str] = collections.Counter()
    for path in leaves(node, start):
        for value in BAD:
            changed = put(base, path, value)
            said = outcome(changed, top, whole=False)
            where = f"{'.'.join(map(str, path))}={value!r}"
            if isinstance(value, float) and not math.isfinite(value):
                assert said == "refused", where
            if whole and said == "accepted":
                said = outcome(changed, top, whole=True)
            counts[said] += 1
    return counts


@pytest.mark.parametrize("file", FILES)
def test_no_option_takes_what_it_cannot_have(file: str) -> None:
    """By types and ranges alone, in milliseconds a value."""
    _walk(file, whole=False)


#: Where the values that types allow are tried whole, with the network and the attack made and
#: called.
WHOLE = [
    "dataset/digits",
    "model/small_cnn",
    "model/resnet20",
    "quantizer/ptq_static",
    "pruner/magnitude",
    "pruner/filters",
    "objective/trades",
    "objective/smoothing",
    "attack/pgd",
    "attack/occlusion",
]


@pytest.mark.slow
@pytest.mark.parametrize("file", WHOLE)
def test_what_is_accepted_builds_and_runs_once(file: str) -> None:
    counts = _walk(file, whole=True)
    assert counts["refused"] > 5 * counts["accepted"]
