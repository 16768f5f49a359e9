"""Find each of a network's tensors in a checkpoint; list what is missing and unexpected."""

import re
from dataclasses import dataclass, field

from torch import Tensor

from advprune.models.checkpoints.constants import Constants, take_constants
from advprune.models.checkpoints.name_lists import some
from advprune.models.checkpoints.renames import OPTIONAL, elsewhere
from advprune.models.checkpoints.tensors import same

#: Parts of published networks (HYDRA's and TRADES' WRN) that never took part in a forward pass.
UNUSED = ("sub_block1",)
#: What profilers and averages count, by the last part of the name.
COUNTERS = frozenset(
    ("total_ops", "total_params", "n_averaged", "_extra_state", "__flops__", "__params__")
)
#: Words of a metric or of a loss, by a part of the name.
MEASURED = re.compile(
    r"(^|_)(acc|accuracy|loss|metrics?|criterion|auroc|f1|err|error|precision|recall)\d*(_|$)"
)
COUNTED = re.compile(r"(^|_)(epochs?|steps?|iter|iteration|best|prec1)(_|$)")
#: A copy of the network that another one is preferred to.
COPY = re.compile(r"ema|teacher|target|momentum|swa|averag|attacker|copy|old", re.IGNORECASE)


@dataclass
class Match:
    """How a checkpoint's names and shapes compare with a network's.

    Args:
        weights: the network's own names, with the file's tensors.
        missing, unexpected: what is on one side alone.
        differing: shapes of the file and of the network that are not the same.
        constants: the file's own mean and std, where it has them.
        notes: what was understood that is not plain.
        ambiguous: why one cannot tell what is meant, or nothing.
    """

    weights: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    differing: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    constants: Constants
    notes: list[str] = field(default_factory=list)
    ambiguous: str = ""

    @property
    def fits(self) -> bool:
        """Return whether nothing is missing, unexpected or of another shape."""
        return not (self.missing or self.unexpected or self.differing or self.ambiguous)

    @property
    def distance(self) -> int:
        """Count the tensors that keep it from fitting."""
        return len(self.missing) + len(self.unexpected) + len(self.differing)


def match(network: dict[str, Tensor], theirs: dict[str, Tensor]) -> Match:
    """Match a checkpoint to a network.

    Args:
        network: the network's state dict; only names and shapes are looked at.
        theirs: the file's weights, in plain form.
    """
    needed = [name for name in network if not name.endswith(OPTIONAL)]
    notes: list[str] = []
    left = _without_extras(theirs, network, notes)
    prefix, ambiguous = _prefix(needed, left, notes)
    matched = {name: prefix + name for name in network if prefix + name in left}
    missing = [name for name in needed if name not in matched]
    rest = [name for name in left if name not in matched.values()]
    constants = take_constants({name: left[name] for name in rest}, network)
    rest = [name for name in rest if name not in constants.names]
    matched |= elsewhere(missing, rest, network, left, prefix, notes)
    missing = [name for name in missing if name not in matched]
    rest = [name for name in rest if name not in matched.values()]
    copies = _copies(needed, left) - {prefix} if not missing else set()
    beside = [
        name
        for name in rest
        if _beside(name, left[name], prefix)
        or any(name.startswith(copy) for copy in copies if copy)
    ]
    if beside:
        notes.append(f"left out {some(beside, 2)}, which lie beside the network")
    shapes = {
        name: (tuple(left[theirs_name].shape), tuple(network[name].shape))
        for name, theirs_name in matched.items()
    }
    return Match(
        weights={name: left[theirs_name] for name, theirs_name in matched.items()},
        missing=missing,
        unexpected=[name.removeprefix(prefix) for name in rest if name not in beside],
        differing={name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
        constants=constants,
        notes=notes,
        ambiguous=ambiguous,
    )


def _without_extras(
    theirs: dict[str, Tensor], network: dict[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Drop the tensors that profilers, averages and unused blocks leave in a file."""
    last = {name.rpartition(".")[2] for name in network}
    dropped = [name for name in theirs if name.rpartition(".")[2] in COUNTERS - last]
    if dropped:
        notes.append(f"left out the counters in it ({some(dropped, 2)})")
    unused = [
        name
        for name in theirs
        if any(part in UNUSED for part in name.split(".")) and name not in network
    ]
    if unused:
        notes.append(f"ignored {some(unused, 2)}, which no forward pass uses")
    return {name: tensor for name, tensor in theirs.items() if name not in {*dropped, *unused}}


def _prefixes(needed: list[str], names: dict[str, Tensor]) -> dict[str, int]:
    """Count the network's names behind each prefix."""
    wanted, counts = set(needed), dict[str, int]()
    for name in names:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in wanted:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    return counts


def shared(network: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the share of the smaller network's names that the other has, under one prefix."""
    return max(_prefixes(list(network), theirs).values(), default=0) / min(
        len(network), len(theirs)
    )


def _copies(needed: list[str], names: dict[str, Tensor]) -> set[str]:
    """Return the prefixes under which the whole network lies."""
    return {prefix for prefix, count in _prefixes(needed, names).items() if count == len(needed)}


def _prefix(needed: list[str], names: dict[str, Tensor], notes: list[str]) -> tuple[str, str]:
    """Return the prefix of the network's names, and a reason where it is ambiguous."""
    counts = _prefixes(needed, names)
    most = max(counts.values(), default=0)
    best = sorted(
        (p for p, count in counts.items() if count == most),
        key=lambda p: (len(COPY.findall(p)), len(p), p),
    )
    if most < len(needed) or len(best) == 1:
        return (best[0] if best else ""), ""
    differ = [
        p for p in best[1:] if not all(same(names[best[0] + n], names[p + n]) for n in needed)
    ]
    if not differ:
        return best[0], ""
    plain = [p for p in best if not COPY.search(p)]
    shown = ", ".join(p.rstrip(".") or "the top" for p in best)
    if len(plain) != 1 and best[0] != "":
        return (
            best[0],
            f"it holds the network {len(best)} times, under {shown}: save the one that is meant "
            "alone",
        )
    notes.append(f"took the network under {best[0].rstrip('.') or 'the top'}, of {shown}")
    return best[0], ""


def _beside(name: str, tensor: Tensor, prefix: str) -> bool:
    """Return whether a name outside the network is a metric's, a loss's or a count's."""
    if prefix and name.startswith(prefix):
        return False
    *parts, leaf = name.split(".")
    alone = tensor.numel() == 1 and bool(MEASURED.search(leaf) or COUNTED.search(leaf))
    return alone or any(MEASURED.search(part) for part in parts)
