"""Measure what the store adds to a stage: python -m benchmarks store_overhead

That is key, lock, sign of life, checks, marks and journal. Stages of the sizes of real networks are
found or made by the store as always; only the work inside
of them is replaced by reading the parent's weights and writing one's own, which a stage does anyway
and which is taken off.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advprune.distributed.environment import Trainer
from advprune.modules.weights_io import load_weights, save_weights
from advprune.pipeline.executor import ensure_stages
from advprune.stages import dense, evaluated, finetuned, pruned
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store
from advprune.tracking.logger import Logger

#: Parameters of a network, and files that its stages write. A stage of which 1 % is compared takes
#: 10 s.
NETWORKS = {"small_cnn": 30_000, "vgg16_bn": 15_300_000, "wrn_28_10": 36_500_000}
FILES = {
    "dense": ("best", "last", "model", "early"),
    "pruned": ("model", "masks"),
    "finetuned": ("best", "last", "model", "masks"),
    "evaluated": (),
}
SECONDS = 10.0


@dataclass(frozen=True)
class Seeded:
    """Options of a stage that nothing looks into."""

    node: dict[str, Any]


def measure(parameters: int) -> dict[str, float]:
    """Return the store's own seconds for each kind of stage, its imports left out."""
    weights, masks = {"w": torch.ones(parameters)}, {"w": torch.ones(parameters, dtype=torch.bool)}
    inside: dict[str, float] = {}
    spent: dict[str, float] = {}

    def make(stage: Stage[Any], folder: Path, parent: Path | None, where: Any) -> dict[str, Any]:
        start = time.perf_counter()
        if parent is not None:
            load_weights(parent / "model.safetensors")
        for name in FILES[stage.kind]:
            save_weights(folder / f"{name}.safetensors", masks if name == "masks" else weights)
        inside[stage.kind] = time.perf_counter() - start
        return {}

    makers = {module: module.make for module in (dense, pruned, finetuned, evaluated)}
    try:
        for module in makers:
            module.make = make  # type: ignore[assignment]
        with tempfile.TemporaryDirectory() as folder:
            stages: list[Stage[Seeded]] = []
            for kind in FILES:
                stages.append(
                    Stage(kind, Seeded({"seed": 0, "dataset": {}}), stages[-1] if stages else None)
                )
                plan = Plan(stages[0], stages[-1], stages[-1], stages[-1])
                start = time.perf_counter()
                ensure_stages(plan, Store(folder), RunContext(Trainer(), Logger(), Path(folder)))
                spent[kind] = time.perf_counter() - start - inside[kind]
    finally:
        for module, original in makers.items():
            module.make = original  # type: ignore[assignment]
    return spent


def run() -> list[dict[str, Any]]:
    """Return the best of three for each network: work, and not the waiting of a shared machine."""
    measure(1000)  # imports
    rows = []
    for name, parameters in NETWORKS.items():
        times = [measure(parameters) for _ in range(3)]
        for kind in FILES:
            seconds = min(t[kind] for t in times)
            rows.append(
                {
                    "what": f"the store's part of {kind}, {name}",
                    "against": f"a stage of {SECONDS:.0f} s",
                    "bar": "< 1 %",
                    "measured": f"{1000 * seconds:.0f} ms, {100 * seconds / SECONDS:.2f} %",
                }
            )
    return rows


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
