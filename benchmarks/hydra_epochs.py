"""Extrapolate HYDRA's 100 + 20 + 100 epochs on ResNet-18: python -m benchmarks hydra_epochs

On a GPU three full epochs of each phase (45,056 random images of 32 x 32 pixels, crop and flip,
TRADES-10, batch 256) through the stages' own modules and Lightning's Trainer, without validation,
in bf16 and channels_last; the first epoch, which tries kernels, does not count. On a processor a
few steps of each phase, at a batch of 16: it says what the table would be like, and nothing about a
GPU. ``ADVPRUNE_COMPILE=reduce-overhead``, or another mode, compiles the steps.
"""

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from advprune.datasets.images import CropFlip, Split
from advprune.datasets.loader import TrainLoader
from advprune.distributed.environment import Trainer, settle
from advprune.masks import prunable
from advprune.models.resnet import ResNet
from advprune.modules.pruner_training import PrunerTraining
from advprune.modules.recipe import Recipe
from advprune.modules.training import RobustTraining
from advprune.objectives.trades import trades
from advprune.pruners.hydra import Hydra
from advprune.pruners.scopes import spend as spend_ratio
from advprune.pruners.task import Task
from advprune.stages.training_phase import RunContext, optimized_layout, trainer
from advprune.surgery.subnet import Subnet
from benchmarks._turns import CIFAR, DEVICE
from benchmarks.training_step import ATTACK

ON_GPU = DEVICE == "cuda"
IMAGES, BATCH, EPOCHS = (176 * 256, 256, 3) if ON_GPU else (32, 16, 2)
PHASES = {"dense": 100, "search": 20, "finetune": 100}
OBJECTIVE = partial(trades, attack=ATTACK)
MODE: Any = os.environ.get("ADVPRUNE_COMPILE") or None
RECIPE = Recipe(epochs=EPOCHS, learning_rate=1e-3, batch_size=BATCH)


class Clock(pl.Callback):
    """Measures the seconds of each epoch, the device's work included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.begun = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if ON_GPU:
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.begun)


def module_of(phase: str, net: nn.Module) -> RobustTraining:
    """Return what the stages train in this phase, at ratio 0.9."""
    spend = partial(spend_ratio, scope="layer")
    task = Task(0.9, spend, tuple(prunable(net)), ratios=(0.9,))
    if phase == "search":
        process = Hydra(net, task)
        return PrunerTraining(net, OBJECTIVE, RECIPE, attack=None, seed=0, process=process)
    masks = task.masks({name: weight.detach().abs() for name, weight in prunable(net).items()})
    trained = net if phase == "dense" else Subnet(net, masks)
    return RobustTraining(trained, OBJECTIVE, RECIPE, attack=None, seed=0)


def epoch(phase: str) -> float:
    """Return the median seconds of an epoch after the first."""
    torch.manual_seed(0)
    module, clock, folder = module_of(phase, ResNet(**CIFAR)), Clock(), Path(tempfile.gettempdir())
    module.precision = "bf16"
    options = Trainer(accelerator="cuda" if ON_GPU else "cpu", compile=MODE)
    where = RunContext(options, None, folder)  # type: ignore[arg-type]
    settle(where.trainer, 32)
    run = trainer(where, [clock], max_epochs=EPOCHS, enable_checkpointing=False)
    images = Split(
        torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8), torch.randint(10, (IMAGES,))
    )
    loader = TrainLoader(
        images.to(run.strategy.root_device),
        batch_size=BATCH,
        seed=0,
        augment=CropFlip(crop=4, flip=True),
    )
    with optimized_layout(module.net, where.trainer, 32):
        run.fit(module, loader)
    print(f"  {phase}: {clock.seconds} s", file=sys.stderr, flush=True)
    return statistics.median(clock.seconds[1:])


def run() -> list[dict[str, Any]]:
    """Return one row: the minutes of all phases."""
    scale = 45_000 / IMAGES
    taken = {phase: epoch(phase) * scale for phase in PHASES}
    minutes = sum(taken[phase] * epochs for phase, epochs in PHASES.items()) / 60
    shown = ", ".join(f"{phase} {value:.3g} s an epoch" for phase, value in taken.items())
    if ON_GPU:
        against, bar = (
            f"{EPOCHS} full epochs a phase on {torch.cuda.get_device_name()}",
            "<= 30 min",
        )
    else:
        against = (
            f"needs a GPU; here {IMAGES // BATCH} steps a phase of batch {BATCH} "
            "on the processor, extrapolated"
        )
        bar = "<= 30 min on one H200"
    return [
        {
            "what": "HYDRA 100 + 20 + 100 epochs, ResNet-18, TRADES-10, 45,000 images, bf16"
            + (f", compiled ({MODE})" if MODE else ""),
            "against": against,
            "bar": bar,
            "measured": f"{minutes:.3g} min ({shown})",
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
