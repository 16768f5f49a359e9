"""One training phase of a stage: a Trainer that checkpoints every epoch and goes on where a killed one was."""

import logging
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar

from advprune.loggers.base import Logger
from advprune.modules.callbacks import PlainProgress
from advprune.modules.curves import Curves
from advprune.modules.files import AtomicCheckpoint
from advprune.stages.told import CURVES

#: Side in pixels up to which one thread of the processor is the default.
TINY_IMAGE = 16


@dataclass(frozen=True)
class Where:
    """Where and how visibly a job runs; never part of a result's identity.

    Attributes:
        trainer: options of the device.
        logger: what curves are told to.
        stage, folder: the stage being made, by the name loggers have for it, and its folder.
    """

    trainer: dict[str, Any]
    logger: Logger
    stage: str = ""
    folder: Path = Path()

    def settle(self, image_size: int) -> None:
        """Apply what holds for the whole process, and silence notices that are not for the user.

        On images as small as the digits, two threads wait for each other more than they help: on two busy cores a
        TRADES-7 step took 33 ms with one thread and 210 to 660 ms with two.
        """
        threads = self.trainer.get("threads") or (1 if image_size <= TINY_IMAGE else None)
        if threads:
            torch.set_num_threads(int(threads))
        for name in ("pytorch_lightning", "lightning.fabric", "lightning_fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|lightning_utilities")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def trainer(where: Where, title: str, *, callbacks: list[Callback] | None = None, **options: Any) -> pl.Trainer:
    """A Lightning Trainer for one phase; ``title`` is shown beside its progress."""
    terminal = sys.stdout.isatty()
    shown: Callback = RichProgressBar(leave=False) if terminal else PlainProgress(title)
    return pl.Trainer(
        accelerator=where.trainer["accelerator"],
        devices=where.trainer["devices"],
        logger=False,  # a job has one logger for all of its phases, which ``Curves`` tells
        callbacks=[*(callbacks or []), shown],
        plugins=[AtomicCheckpoint()],
        inference_mode=False,  # attacks differentiate, also while validating
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=terminal,
        use_distributed_sampler=False,
        **options,
    )


def fit(
    where: Where, module: Any, datamodule: Any, work: Path, title: str, *, epochs: int, callbacks: list[Callback]
) -> None:
    """Train to the end, from the last checkpoint in ``work`` if there is one."""
    average = [EMAWeightAveraging(use_buffers=False, decay=module.recipe.ema)] if module.recipe.ema is not None else []
    saved = ModelCheckpoint(work, filename="last", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True,
                            enable_version_counter=False, auto_insert_metric_name=False)  # fmt: skip
    curves = Curves(where.folder / CURVES, work.name, partial(where.logger.point, where.stage))
    run = trainer(where, title, callbacks=[*callbacks, *average, curves, saved], max_epochs=epochs,
                  gradient_clip_val=module.recipe.clip)  # fmt: skip
    last = work / "last.ckpt"
    datamodule.to(run.strategy.root_device)
    interruptible(run, lambda: run.fit(module, datamodule=datamodule, ckpt_path=str(last) if last.exists() else None))
    curves.save()


def interruptible(run: pl.Trainer, call: Any) -> Any:
    """Call; Lightning turns Ctrl-C into ``exit(1)``, which is turned back."""
    try:
        return call()
    except SystemExit:
        if run.interrupted:
            raise KeyboardInterrupt from None
        raise
