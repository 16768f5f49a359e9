"""Evaluate a network: attack or certify every image once, check the answer, record one row each."""

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from advprune.attacks.monitor import AttackMonitor
from advprune.distributed.sharding import Shard, seed_step
from advprune.frozen import frozen
from advprune.logits import NO_CLASS, predict
from advprune.modules import adversarial_images
from advprune.modules.adversarial_images import check_adversarial, evaluation_warnings
from advprune.modules.examples import Examples, verdicts
from advprune.modules.minimum_distance import minimum_distance
from advprune.modules.weights_io import save_weights
from advprune.runtime.safe_files import write_atomically
from advprune.threat import Threat, proves

FIRST = "batch_000000"


@dataclass
class Extras:
    """Hold what an attack may say beside its images, each in the argument of the same name.

    Attributes:
        trail: of the attacks inside it, one after the other: the name, and what is still robust.
        verdicts: of the attacks inside it, each for itself: which images are right.
        nearest: points (N, C, H, W) whose distances are recorded.
        facts: about the attack.
        marks: further columns of the records, (N,) each.
    """

    trail: list[tuple[str, Tensor]] = field(default_factory=list)
    verdicts: dict[str, Tensor] = field(default_factory=dict)
    nearest: list[Tensor] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, Tensor] = field(default_factory=dict)


class RobustEvaluation(pl.LightningModule):
    """Attack each test batch and write its records; a batch on disk is not attacked again.

    On several ranks each is given every so many-th batch, as ``share`` says; the seeds are the
    batches' own.

    Args:
        net: pixels -> logits.
        attack: ``(model, x, y) -> x_adv``; one that returns a ``Certificate`` is a certifier. If it
            takes arguments of these names, it is given ``positions``, each image's in the test set;
            ``span``, which of all images the batch has; ``monitor``, to say how far it is;
            ``work``, a file to keep its state in and to go on from; and those of ``Extras``, to
            fill.
        name: of the attack, for the records.
        threat: the ball every x_adv must be in; None if the attack has a perturbation set of its
            own.
        parts: folder of the batches done so far.
        seed: of the run; each batch has its own made from it.
        keep: also write each batch's x_adv, with the network's answers.
        examples: of a transfer attack, made on its source; they are evaluated, and nothing is
            attacked.
        monitor: that follows the attack.
        gallery: the PNG in which images of the first batch are shown as they were attacked; None
            for none.
        images: how many are evaluated in all; None: those of one batch.
        batch_size: how many a batch has, but for the last.
    """

    share = Shard()

    def __init__(
        self,
        net: nn.Module,
        attack: Callable[..., Any],
        *,
        name: str,
        threat: Threat | None,
        parts: Path,
        seed: int,
        keep: bool = False,
        examples: Examples | None = None,
        gallery: Path | None = None,
        monitor: AttackMonitor | None = None,
        images: int | None = None,
        batch_size: int = 0,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.net, self.attack, self.attack_name = net, attack, name
        self.threat, self.parts, self.run_seed = threat, parts, seed
        self.keep, self.examples, self.gallery = keep, examples, gallery
        self.monitor = monitor or AttackMonitor()
        self.images, self.batch_size = images, batch_size
        self.doubts: list[str] = []

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> dict[str, int] | None:
        """Evaluate one batch: x (N, C, H, W), y (N,), and positions in the test set (N,).

        Returns:
            How many images it has, and how many are robust (or certified); None of one on disk.
        """
        x, y, positions = batch
        index = self.share.rank + index * self.share.ranks
        path = self.parts / f"batch_{index:06d}.json"
        if index == 0:
            with frozen(self.net):
                self.doubts = evaluation_warnings(self.net, x, y)
        if path.exists():
            return None
        seed_step(self.run_seed, "attack", index)
        first = index * self.batch_size
        span = (first, first + len(y), self.images or len(y))
        rows = self._records(x, y, positions, span, path.with_suffix(".safetensors"))
        write_atomically(path, json.dumps(rows))
        held = "certified" if self.certifies else "robust"
        return {held: sum(rows[f"{held}_ok"]), "images": len(y)}

    def _records(
        self, x: Tensor, y: Tensor, positions: Tensor, span: tuple[int, int, int], part: Path
    ) -> dict[str, list[Any]]:
        """Attack and check the answer; return columns with one row an image."""
        if self.certifies:
            return self._certified(x, y, positions)
        extras, source = Extras(), self.examples.at(positions) if self.examples else {}
        offered: dict[str, Any] = {
            **vars(extras),
            "positions": positions,
            "span": span,
            "monitor": self.monitor,
            "work": part.with_suffix(".state"),
        }
        with frozen(self.net):
            x_adv = source["x_adv"] if source else self._attacked(x, y, offered)
            distance = check_adversarial(x_adv, x, self.threat, self.attack_name)
            with torch.no_grad():
                clean, after = predict(self.net(x)), predict(self.net(x_adv))
        clean_ok = clean == y
        if extras.facts:
            write_atomically(self.parts / "facts.json", json.dumps(extras.facts))
        if self.gallery is not None and part.stem == FIRST:
            adversarial_images.save_picture(self.gallery, x, x_adv, y, clean, after)
        if self.keep:
            kept = {"x_adv": x_adv, "image": positions, "clean_pred": clean, "adv_pred": after}
            save_weights(part, {name: tensor.cpu().contiguous() for name, tensor in kept.items()})
        columns = {
            "image": positions,
            "label": y,
            "clean_pred": clean,
            "adv_pred": after,
            "clean_ok": clean_ok,
            "robust_ok": clean_ok & (after == y),
            "distance": distance,
            **(verdicts(source, y) if source else {}),
            **self._distances(x, y, clean_ok, extras.nearest),
            **{f"robust_ok.{inner}": robust for inner, robust in extras.trail},
            **{f"ok.{inner}": right for inner, right in extras.verdicts.items()},
            **extras.marks,
        }
        return {name: column.tolist() for name, column in columns.items()}

    def _attacked(self, x: Tensor, y: Tensor, offered: dict[str, Any]) -> Tensor:
        """Attack, and give the attack those of the offered arguments that it takes."""
        parameters = inspect.signature(self.attack).parameters
        taken = {name: value for name, value in offered.items() if name in parameters}
        x_adv: Tensor = self.attack(self.net, x, y, **taken).detach()
        return x_adv

    def _distances(
        self, x: Tensor, y: Tensor, clean_ok: Tensor, nearest: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the distance of each image's nearest wrong point; nothing if none was sought."""
        if not nearest or self.threat is None:
            return {}
        with frozen(self.net):
            distances = minimum_distance(self.net, nearest, x, y, self.threat)
        return {"min_distance": distances.where(clean_ok, 0.0)}

    @property
    def certifies(self) -> bool:
        """Return whether the "attack" is a certifier, which returns a ``Certificate``."""
        return proves(self.attack)

    def _certified(self, x: Tensor, y: Tensor, positions: Tensor) -> dict[str, list[Any]]:
        """Certify; return columns with one row an image.

        A certified image is one whose class is right, and proved.
        """
        with frozen(self.net):
            proof = self.attack(self.net, x, y, positions=positions)
            with torch.no_grad():
                clean = predict(self.net(x))
        columns = {
            "image": positions,
            "label": y,
            "clean_pred": clean,
            "clean_ok": clean == y,
            "certified_ok": proof.certified & (proof.predicted == y) & (clean != NO_CLASS),
            "radius": proof.radius,
            "certified_pred": proof.predicted,
            "abstained": proof.abstained,
            "smoothed": torch.full_like(y, proof.smoothed, dtype=torch.bool),
        }
        return {name: column.tolist() for name, column in columns.items()}

    def facts(self) -> dict[str, Any]:
        """Return what the attack said of itself: its engine, for one that has several."""
        path = self.parts / "facts.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def records(self) -> dict[str, list[Any]]:
        """Return the columns of all batches, in the order of the test set."""
        rows: dict[str, list[Any]] = {}
        batches = math.ceil(self.images / self.batch_size) if self.images else 1
        for index in range(batches):
            for name, column in json.loads(
                (self.parts / f"batch_{index:06d}.json").read_text()
            ).items():
                rows.setdefault(name, []).extend(column)
        return rows
