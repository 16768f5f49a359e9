"""Stop a run in which a certificate and an attack contradict each other about an image."""

import logging
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
    for path in sorted(folder.parent.glob(f"*/{MARK}")):
        wrong = find_damage(path.parent, read=True, unread=[RECORDS])
        if wrong:
            log.warning(
                "%s: it was not compared, and is made again by the command that made it", wrong
            )
            continue
        try:
            other = read_json(path.parent / "result.json")
            if other.get("parent") != stage.parent.key or not other.get("threat"):
                continue
            options = options_in(read_text(path.parent / "config.yaml"))
        except (OSError, ValueError) as error:  # whole, but not what a stage writes
            log.warning(
                "result.json or config.yaml in %s (%s): it was not compared", path.parent, error
            )
            continue
        # another variant of a quantized network is another network
        if options.get("runs", "fake_quant") != stage.options.runs:
            continue
        if _data(options["dataset"]) != _data(stage.record["dataset"]):
            continue
        wrong = find_damage(path.parent, read=True)
        if wrong:
            log.warning(
                "%s: it was not compared, and is made again by the command that made it", wrong
            )
            unseal(path.parent)
            continue
        records = pd.read_parquet(path.parent / RECORDS)
        old = Evaluation(_name(options["attack"]), other["threat"], records)
        for proof, attack in ((new, old), (old, new)):
            _compare(proof, attack, stage.parent)


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
