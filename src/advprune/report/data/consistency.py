"""Stop a run in which a certificate and an attack contradict each other about an image."""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advprune.errors import UserError
from advprune.report.data.stage_files import options_in
from advprune.runtime.safe_files import read_json, read_text
from advprune.store.checksums import MARK, find_damage
from advprune.store.keys import Node, canonical, dataset_identity
from advprune.store.store import unseal

if TYPE_CHECKING:
    import pandas as pd

    from advprune.config.stage_options import Evaluated
    from advprune.store.stage import Stage

log = logging.getLogger(__name__)
#: Room for the rounding of a distance, as in ``modules/adversarial_images.py``.
SLACK = 1e-6
RECORDS = "records.parquet"


class Evaluation(NamedTuple):
    """Hold the records of an attack or a proof, with its norm and eps."""

    name: str
    threat: Node
    records: "pd.DataFrame"


def refuse_contradictions(
    columns: dict[str, list[Any]], stage: "Stage[Evaluated]", folder: Path, threat: Node
) -> None:
    """Compare a new evaluation with the finished ones of the same network on the same data.

    Certificates of a smoothed network are left out: they speak of the network under noise.

    Args:
        columns: the new records.
        stage: that made them.
        folder: of the new stage; its neighbours in the store are the other evaluations.
        threat: norm and eps of the new evaluation.

    Raises:
        UserError: naming the first image that is proved within a distance at which an attack
            changed its class.
    """
    import pandas as pd

    assert stage.parent is not None
    new = Evaluation(stage.options.attack.method.name, threat, pd.DataFrame(columns))
    for old in _others(stage, folder.parent):
        for proof, attack in ((new, old), (old, new)):
            _compare(proof, attack, stage.parent)


def _others(stage: "Stage[Evaluated]", folder: Path) -> Iterator[Evaluation]:
    """Yield the whole evaluations in ``folder`` of the same network on the same data."""
    import pandas as pd

    for mark in sorted(folder.glob(f"*/{MARK}")):
        other = mark.parent
        if _is_damaged(other, unread=[RECORDS]) or (facts := _facts(other, stage)) is None:
            continue
        if _is_damaged(other):
            unseal(other)
            continue
        result, options = facts
        records = pd.read_parquet(other / RECORDS)
        yield Evaluation(_name(options["attack"]), result["threat"], records)


def _is_damaged(folder: Path, unread: Collection[str] = ()) -> bool:
    """Return whether files of an evaluation changed since it was finished, and say which."""
    wrong = find_damage(folder, read=True, unread=unread)
    if wrong:
        log.warning("%s: it was not compared, and is made again by the command that made it", wrong)
    return wrong is not None


def _facts(folder: Path, stage: "Stage[Evaluated]") -> tuple[Node, Node] | None:
    """Return the result and options of an evaluation; None if not of this network and data."""
    assert stage.parent is not None
    try:
        result = read_json(folder / "result.json")
        if result.get("parent") != stage.parent.key or not result.get("threat"):
            return None
        options = options_in(read_text(folder / "config.yaml"))
    except (OSError, ValueError) as error:  # whole, but not what a stage writes
        log.warning("result.json or config.yaml in %s (%s): it was not compared", folder, error)
        return None
    # another variant of a quantized network is another network
    same_network = options.get("runs", "fake_quant") == stage.options.runs
    same_data = _data(options["dataset"]) == _data(stage.record["dataset"])
    return (result, options) if same_network and same_data else None


def _compare(proof: Evaluation, attack: Evaluation, network: "Stage[Any]") -> None:
    proved, attacked = proof.records, attack.records
    if "certified_ok" not in proved or "robust_ok" not in attacked or proved["smoothed"].any():
        return
    if proof.threat["norm"] != attack.threat["norm"] or "distance" not in attacked:
        return
    both = proved[proved["certified_ok"]].merge(attacked, on="image")
    wrong = both[(both["distance"] <= proof.threat["eps"] + SLACK) & ~both["robust_ok"]]
    if len(wrong):
        first = wrong.iloc[0]
        raise UserError(
            f"{proof.name} and {attack.name} contradict each other on {len(wrong)} images of "
            f"{network.kind} {network.key}: image {first['image']} is certified within "
            f"{proof.threat['eps']:g}, and wrong at {first['distance']:g}; one of the two is "
            "defective: trust neither, and report it with this message"
        )


def _data(dataset: Node) -> Any:
    return canonical(dataset_identity(dataset, training=False))


def _name(attack: Node) -> str:
    return str(attack["_target_"]).rsplit(".", 1)[-1]
