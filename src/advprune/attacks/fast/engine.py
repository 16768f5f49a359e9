"""AutoAttack by our own, faster engine, with the parts, steps and losses of pyautoattack 0.2.0.

Croce and Hein 2020, https://arxiv.org/abs/2003.01690. Results are pyautoattack's up to random
numbers: an image leaves as soon as it is fooled, another takes its place, and the search runs on a
faster copy of the network; each point that counts is checked by the plain one in float32. Random
numbers belong to an image's place in its test set, a part and a turn, so a result depends on no
other image, nor on the size of the batch, but for rounding.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advprune.attacks.fast.apgd import APGD, cross_entropy, dlr, dlr_targeted
from advprune.attacks.fast.batching import Pool, Search
from advprune.attacks.fast.fab import FAB
from advprune.attacks.fast.journal import Journal
from advprune.attacks.fast.network import searcher
from advprune.attacks.fast.results import BatchResults
from advprune.attacks.fast.searcher import Precision
from advprune.attacks.fast.square import Square
from advprune.attacks.monitor import AttackMonitor
from advprune.threat import Threat

#: To be raised with every change that may change results.
VERSION = 1
STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
TARGETS = 9
#: Images on which the copy that searches is compared with the network.
PROBED = 16


class Engine:
    """One attack on one batch.

    Args:
        model: pixels (N, C, H, W) in [0, 1] -> logits (N, K); frozen, in eval mode.
        x: clean images (N, C, H, W), float32 in [0, 1].
        y: labels (N,) int64.
        places: places of the images in their test set, which decide their random numbers.
        threat: the ball.
        restarts: restarts of apgd-ce and apgd-dlr.
        seed: seed of every part.
        precision: precision of the search; None for the fastest on the device.
        work: file of the state while the attack runs, from which it resumes if the file exists.
        monitor: that hears how far each part is.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        places: list[int],
        threat: Threat,
        *,
        restarts: int = 1,
        seed: int = 0,
        precision: Precision | None = None,
        work: Path | None = None,
        monitor: AttackMonitor | None = None,
    ) -> None:
        self.results = BatchResults(model, x, y, places, threat)
        self.net = searcher(
            model, x[:PROBED], y[:PROBED], self.results.clean_logits[:PROBED], threat, precision
        )
        self.restarts, self.seed = restarts, seed
        self.journal, self.monitor = Journal(work, x.device), monitor or AttackMonitor()

    @property
    def facts(self) -> dict[str, Any]:
        """Return the engine's version, the search's precision and whether BatchNorm is folded."""
        net = self.net
        return {
            "engine": f"fast {VERSION}",
            "search_precision": net.precision,
            "search_folded": net.folded,
        }

    @torch.no_grad()
    def run(self, parts: tuple[str, ...] = STANDARD) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        """Attack in turn with each part the images that the parts before it left right.

        What was saved on the way stays on disk until the caller clears the journal.

        Returns:
            x_adv (N, C, H, W), where an image that is still right, or was wrong before, is clean;
            and the trail ("clean", flags), (part, flags), …, flags (N,) bool saying which images
            are still right.
        """
        saved, trail = self.journal.load(), [("clean", self.results.still_right.clone())]
        if saved:
            self.results.x_adv, self.results.still_right = saved.pop("x_adv"), saved.pop("standing")
        for part in parts:
            done = f"after.{part}"
            if done not in saved:
                self._run_part(part, saved, trail)
            trail.append((part, saved.pop(done, self.results.still_right).clone()))
            self.monitor.finish_part(*trail[-1])
        return self.results.x_adv, trail

    def _run_part(
        self, part: str, saved: dict[str, Tensor], trail: list[tuple[str, Tensor]]
    ) -> None:
        """Run a part, and resume it if ``saved`` holds its state."""
        pool = Pool(self._search(part), self.results, rows=self.net.rows)
        if "ahead" in saved:
            pool.ahead = int(saved.pop("ahead"))
            pool.state = {
                name.removeprefix("state."): saved.pop(name)
                for name in list(saved)
                if name[:6] == "state."
            }

        def tick() -> None:
            self.monitor.advance_part(part, pool.share)
            if self.journal.due():
                self.save(trail, pool)

        pool.run(tick)

    def save(self, trail: list[tuple[str, Tensor]], pool: Pool | None = None) -> None:
        """Write the state of the attack to disk; there is no pool between two parts."""
        state = {f"state.{name}": tensor for name, tensor in pool.state.items()} if pool else {}
        done = {f"after.{part}": flags for part, flags in trail[1:]}
        images = {"x_adv": self.results.x_adv, "standing": self.results.still_right}
        if pool:
            images["ahead"] = torch.tensor(pool.ahead)
        self.journal.save(state | done | images)

    def _search(self, part: str) -> Search:
        net, results, seed = self.net, self.results, self.seed
        targets = min(TARGETS, results.clean_logits.shape[1] - 1)
        if part == "fab-t":
            return FAB(net, results, turns=targets)
        if part == "square":
            return Square(net, results, seed=seed)
        if part == "apgd-t":
            return APGD(part, net, results, dlr_targeted, turns=targets, seed=seed)
        loss = cross_entropy if part == "apgd-ce" else dlr
        return APGD(part, net, results, loss, turns=self.restarts, seed=seed)
