"""Robust evaluation: every image attacked, or certified, once; one record an image; the verdict the frame's own."""

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from advprune.frozen import frozen
from advprune.modules.judge import doubts, verify
from advprune.modules.seeding import seed_step
from advprune.threat import Threat


class RobustEvaluation(pl.LightningModule):
    """Attack each test batch and write its records; a batch that is already on disk is not attacked again.

    Args:
        net: pixels -> logits.
        attack: ``(model, x, y) -> x_adv``; if it takes a ``trail`` list, the attacks inside it are recorded too; if it
            takes ``positions``, it is a certifier and gives a ``Certificate``.
        name: of the attack, for the records.
        threat: the ball every x_adv must be in.
        parts: folder of the batches done so far.
        seed: of the run; each batch has its own made from it.
    """

    def __init__(
        self,
        net: nn.Module,
        attack: Callable[..., Any],
        *,
        name: str,
        threat: Threat,
        parts: Path,
        seed: int,
    ) -> None:
        super().__init__()
        self.net, self.attack, self.attack_name = net, attack, name
        self.threat, self.parts, self.run_seed = threat, parts, seed
        self.doubts: list[str] = []

    def test_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> None:
        """Judge one batch (x, y, position of each image in the test set)."""
        x, y, positions = batch
        path = self.parts / f"batch_{index:06d}.json"
        if index == 0:
            with frozen(self.net):
                self.doubts = doubts(self.net, x, y)
        if path.exists():
            return
        seed_step(self.run_seed, "attack", index)
        rows = self._records(x, y, positions)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(rows))
        part.replace(path)

    def _records(self, x: Tensor, y: Tensor, positions: Tensor) -> dict[str, list[Any]]:
        """Attack, check the answer, judge it; columns of one row an image."""
        if self.certifies:
            return self._certified(x, y, positions)
        with frozen(self.net):
            trail: list[tuple[str, Tensor]] = []
            traced = {"trail": trail} if "trail" in inspect.signature(self.attack).parameters else {}
            x_adv = self.attack(self.net, x, y, **traced).detach()
            distance = verify(x_adv, x, self.threat, self.attack_name)
            with torch.no_grad():
                clean, after = self.net(x).argmax(1), self.net(x_adv).argmax(1)
        clean_ok = clean == y
        columns = {
            "image": positions, "label": y, "clean_pred": clean, "adv_pred": after, "clean_ok": clean_ok,
            "robust_ok": clean_ok & (after == y), "distance": distance,
        }  # fmt: skip
        for inner, robust in trail:
            columns[f"robust_ok.{inner}"] = robust
        return {name: column.tolist() for name, column in columns.items()}

    @property
    def certifies(self) -> bool:
        """Whether the "attack" is a certifier: one that asks for the images' positions in the test set."""
        return "positions" in inspect.signature(self.attack).parameters

    def _certified(self, x: Tensor, y: Tensor, positions: Tensor) -> dict[str, list[Any]]:
        """Certify; columns of one row an image. A certified image is one whose class is right, and proved."""
        with frozen(self.net):
            proof = self.attack(self.net, x, y, positions=positions)
            with torch.no_grad():
                clean = self.net(x).argmax(1)
        columns = {
            "image": positions, "label": y, "clean_pred": clean, "clean_ok": clean == y,
            "certified_ok": proof.certified & (proof.predicted == y), "radius": proof.radius,
            "certified_pred": proof.predicted, "abstained": proof.abstained,
            "smoothed": torch.full_like(y, proof.smoothed, dtype=torch.bool),
        }  # fmt: skip
        return {name: column.tolist() for name, column in columns.items()}

    def records(self, batches: int) -> dict[str, list[Any]]:
        """All batches' columns, in the order of the test set."""
        rows: dict[str, list[Any]] = {}
        for index in range(batches):
            for name, column in json.loads((self.parts / f"batch_{index:06d}.json").read_text()).items():
                rows.setdefault(name, []).extend(column)
        return rows
