"""Time the report over 1,000 runs with 10 million rows of images: python -m benchmarks report

The store is synthetic and written by the code of the store: real options composed by Hydra, real
keys, real records. What is drawn at random is which images each network has right, and which
weights it keeps.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from advprune import masks as mask_values
from advprune.config import schema
from advprune.config.options import options_of as typed_options
from advprune.config.options import resolve
from advprune.modules.weights_io import save_masks, save_weights
from advprune.pipeline.plan import plan_pruned
from advprune.report.data import evaluation_summary
from advprune.runtime.provenance import provenance
from advprune.runtime.safe_files import write_atomically
from advprune.stages import evaluated
from advprune.store.checksums import write_manifest
from advprune.store.stage import Plan, Stage
from advprune.store.store import Store

ROOT = Path(__file__).resolve().parents[1]
IMAGES, SEEDS = 10_000, 5
PRUNERS = ("hydra", "magnitude", "random", "gradient")
RATIOS = (0.5, 0.8, 0.9, 0.95, 0.99)
MODELS = ("resnet20", "resnet56", "resnet18", "vgg16_bn", "wrn_28_4")
ATTACKS = ("pgd", "autoattack")
SHAPES = {
    "conv1.weight": (16, 3, 3, 3),
    "conv2.weight": (160, 160, 3, 3),
    "linear.weight": (10, 3840),
}
#: What 100 epochs of training leave, and a picture of attacked images.
CURVES = {
    "work": [
        {
            "epoch": at,
            "loss": 1 / at,
            "val_clean_acc": 1 - 0.9 / at,
            "val_robust_acc": 0.5 - 0.4 / at,
        }
        for at in range(1, 101)
    ]
}
PICTURE = np.random.default_rng(0).bytes(9_000)


def options_of(*words: str) -> dict[str, Any]:
    """Return the resolved options of ``prune.py`` with these words."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return resolve(compose("prune", list(words)))


class Synthetic:
    """A store to write finished stages into, as if jobs had made them."""

    def __init__(self, root: Path, shapes: dict[str, tuple[int, ...]] = SHAPES) -> None:
        self.store, self.shapes, self.facts = (
            Store(root),
            shapes,
            provenance("python -m benchmarks report"),
        )

    def job(
        self,
        options: dict[str, Any],
        *,
        robust: Sequence[bool],
        dense: Sequence[bool],
        draw: int = 0,
    ) -> Plan:
        """Finish the networks and both evaluations of a job, with these outcomes on the images."""
        plan = plan_pruned(typed_options(options))
        pruned, dense_stage = plan.final.parent, plan.dense
        assert pruned is not None
        random = np.random.default_rng(draw)
        if self.finish(dense_stage, {"kept": "best"}):
            weights = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
            save_weights(self.store.folder(dense_stage) / "model.safetensors", weights)
            write_manifest(self.store.folder(dense_stage))
        kept = {
            n: torch.from_numpy(random.random(s) > options["ratio"]) for n, s in self.shapes.items()
        }
        measured = mask_values.sparsity(kept)
        result = {
            "sparsity": measured.overall,
            "zeros": measured.overall,
            "layers": measured.layers,
            "ratio": options["ratio"],
            "compression": 1 / (1 - measured.overall),
        }
        if self.finish(pruned, result):
            save_masks(kept, self.store.folder(pruned) / "masks.safetensors")
            write_manifest(self.store.folder(pruned))
        self.finish(plan.final, result | {"kept": "best"})
        self.evaluate(plan.evaluated_dense, dense)
        self.evaluate(plan.evaluated, robust)
        return plan

    def evaluate(self, stage: Stage[Any], robust: Sequence[bool]) -> None:
        """Finish an evaluation: clean is right wherever robust is, and on a tenth of the rest."""
        right = np.asarray(robust, dtype=bool)
        clean = right | (np.arange(len(right)) % 10 == 0)
        columns = {
            "image": np.arange(len(right)),
            "label": np.arange(len(right)) % 10,
            "clean_pred": np.arange(len(right)) % 10,
            "adv_pred": np.arange(len(right)) % 7,
            "clean_ok": clean,
            "robust_ok": right,
            "distance": np.full(len(right), 8 / 255),
        }
        lists = {name: column.tolist() for name, column in columns.items()}
        threat = {"norm": "linf", "eps": 8 / 255}
        result = evaluation_summary.summary(lists) | {
            "of": len(right),
            "threat": threat,
            "perturbation": None,
            "doubts": [],
            "network": {"parameters": 10**6, "nonzero_parameters": 10**5, "nonzero_macs": 10**7},
        }
        if self.finish(stage, result):
            evaluated._write_records(self.store.folder(stage) / "records.parquet", lists)
            write_atomically(self.store.folder(stage) / "examples.png", PICTURE)
            write_manifest(self.store.folder(stage))

    def finish(self, stage: Stage, result: dict[str, Any]) -> bool:
        """Write config, result and mark, and return whether the stage was not there yet."""
        if self.store.done(stage):
            return False
        folder = self.store.folder(stage)
        folder.mkdir(parents=True)
        write_atomically(
            folder / "config.yaml",
            OmegaConf.to_yaml(OmegaConf.create({"stage": stage.kind, **stage.record})),
        )
        if stage.kind != "evaluated":
            write_atomically(folder / "curves.json", json.dumps(CURVES))
        facts = {
            "stage": stage.kind,
            "key": stage.key,
            "parent": stage.parent.key if stage.parent else None,
        }
        self.store.finish(stage, result | facts | {"seconds": 1.0, "provenance": self.facts})
        return True


def synthesise(root: Path) -> int:
    """Write 1,000 pruned runs and their parents' evaluations, and return the number of records."""
    store, random = Synthetic(root), np.random.default_rng(0)
    for number, (model, attack, pruner) in enumerate(
        (m, a, p) for m in MODELS for a in ATTACKS for p in PRUNERS
    ):
        options = options_of(
            f"model={model}", f"attack={attack}", f"pruner={pruner}", "dataset=cifar10"
        )
        for ratio in RATIOS:
            for seed in range(SEEDS):
                share = (
                    0.5
                    - 0.1 * ratio
                    - 0.02 * PRUNERS.index(pruner)
                    + 0.01 * random.standard_normal()
                )
                right, dense = random.random(IMAGES) < share, random.random(IMAGES) < 0.5
                store.job(
                    options | {"ratio": ratio, "seed": seed}, robust=right, dense=dense, draw=number
                )  # type: ignore[arg-type]
    return IMAGES * len(list((root / "evaluated").iterdir()))


def run() -> list[dict[str, Any]]:
    """Time the report from nothing, in a process of its own, as a user would call it."""
    from benchmarks.commands import measure

    with tempfile.TemporaryDirectory() as folder:
        rows = synthesise(Path(folder) / "stages")
        seconds, memory = measure("-m", "advprune.report", "--store", f"{folder}/stages")
        page = (Path(folder) / "report" / "index.html").stat().st_size
    what = f"python -m advprune.report, {rows / 1e6:.1f} M per-image rows"
    return [
        {
            "what": what,
            "against": "1,050 evaluations",
            "bar": "< 15 s",
            "measured": f"{seconds:.1f} s",
        },
        {
            "what": "the same, memory",
            "against": "one process",
            "bar": "< 2 GiB",
            "measured": f"{memory:.2f} GiB",
        },
        {
            "what": "the same, its page",
            "against": "one file",
            "bar": "< 3 MB",
            "measured": f"{page / 1e6:.2f} MB",
        },
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:  # keep the store to look at
        print(synthesise(Path(sys.argv[1])))
    else:
        for row in run():
            print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
