"""Attack a network in memory by any attack of ``conf/attack``, and judge every image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from advprune.api import job
from advprune.api.network import check_arguments, count_classes
from advprune.config.given import options_for
from advprune.datasets.batch_checks import Batches, collect, images_and_labels
from advprune.pipeline.steps import dense, evaluated
from advprune.store.stage import Plan
from advprune.threat import Threat

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Verdict:
    """Hold what an evaluation found.

    Attributes:
        clean_acc: share of the images that are classified correctly.
        robust_acc: share still correct on every image that the attack tried; None of a certifier.
        certified_acc: share proved correct, by a certifier; else None.
        robust_interval: 95 % Wilson interval of ``robust_acc``, or of ``certified_acc``.
        images: how many were attacked.
        doubts: reasons to distrust the numbers, a sentence each.
        records: one row for each image and attack, as in a store's ``records.parquet``.
        result: all that the evaluation tells, as in a store's ``result.json``.
    """

    clean_acc: float
    robust_acc: float | None
    certified_acc: float | None
    robust_interval: tuple[float, float] | None
    images: int
    doubts: list[str]
    records: "pd.DataFrame"
    result: dict[str, Any]


def evaluate(
    net: nn.Module,
    images: Tensor | Batches,
    labels: Tensor | None = None,
    *,
    attack: str = "autoattack",
    threat: Threat,
    seed: int = 0,
    options: Sequence[str] = (),
) -> Verdict:
    """Attack every image once within the threat, and check the attack, as ``attack.py`` does.

    Args:
        net: from pixels in [0, 1] to logits; it stays as it is.
        images: (N, C, H, W) in [0, 1], with ``labels``; or an iterable of batches (images, labels).
        labels: int64 (N,); None if ``images`` are batches.
        attack: a member of ``conf/attack``.
        threat: the ball within which it attacks.
        seed: of all that is random in the attack.
        options: further words of the command line, such as ``"attack.batch_size=64"``.

    Raises:
        UserError: a sentence on what cannot be meant so.
    """
    check_arguments(net, threat)
    batches = [(images, labels)] if isinstance(images, Tensor) else images
    x, y = collect(batches)
    classes = count_classes(net, x[:2], y[:2])
    images_and_labels((x, y), classes=classes)
    with job.scratch() as folder:
        words = [
            f"attack={attack}",
            *job.words_of(threat, net, seed, folder),
            f"checkpoint={job.saved(net, folder)}",
        ]
        chosen = options_for(
            "attack",
            [*words, *options],
            net=net,
            classes=classes,
            shape=tuple(x.shape[1:]),
            attacked=(x, y),
        )
        parent = dense.stage(chosen)
        last = evaluated.stage(chosen, parent)
        store = job.make(chosen, Plan(parent, parent, last, last))
        return _verdict(store.result(last), store.folder(last) / "records.parquet")


def _verdict(result: dict[str, Any], records: Any) -> Verdict:
    import pandas as pd

    name = "certified_acc" if "certified_acc" in result else "robust_acc"
    interval = result.get(f"{name}_interval")
    return Verdict(
        clean_acc=result["clean_acc"],
        robust_acc=result.get("robust_acc"),
        certified_acc=result.get("certified_acc"),
        robust_interval=None if interval is None else tuple(interval),
        images=result["images"],
        doubts=result["doubts"],
        records=pd.read_parquet(records),
        result=result,
    )
