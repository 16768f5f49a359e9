"""Run one training phase, which checkpoints every epoch and goes on where a killed one was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from advprune.distributed import collectives, environment
from advprune.distributed.environment import SMALL_IMAGE, Trainer
from advprune.modules.batch_norm import synchronised
from advprune.modules.curves import Curves
from advprune.modules.stopping import StopWhenAsked, interruptible
from advprune.modules.trial_callback import ReportEpochs
from advprune.modules.weights_io import AtomicCheckpoint, is_whole_checkpoint
from advprune.runtime import preemption
from advprune.runtime.speed import compiling
from advprune.surgery.subnet import Subnet
from advprune.tracking.logger import CURVES, Logger
from advprune.tracking.optuna_trial import VARIABLE as TRIAL_VARIABLE
from advprune.tracking.optuna_trial import Trial
from advprune.tracking.progress import JobTitle
from advprune.tracking.show_progress import shown_progress


@dataclass(frozen=True)
class RunContext:
    """Hold where and how visibly a job runs; it is never part of a result's identity.

    Attributes:
        trainer: options of the device.
        logger: that gets the curves.
        output: the job's own folder.
        stage: the stage being made, by the name loggers have for it.
        folder: of that stage; ``output`` before there is one.
        reported: key of the stage whose accuracy a search for options is after.
        title: of the job, in its progress.
    """

    trainer: Trainer
    logger: Logger
    output: Path
    stage: str = ""
    folder: Path | None = None
    reported: str | None = None
    title: JobTitle = field(default_factory=JobTitle)

    def facts(self, *, training: bool) -> dict[str, Any]:
        """Return, for the result, the number of ranks and a precision other than fp32."""
        precision = self.trainer.precision
        facts: dict[str, Any] = {"precision": precision} if training and precision != "fp32" else {}
        if collectives.size() > 1:
            facts["ranks"] = collectives.size()
            facts |= {"batch_norm": self.trainer.batch_norm} if training else {}
        return facts


def device_of(where: RunContext) -> torch.device:
    """Return the device that trains."""
    return trainer(where, [], enable_checkpointing=False).strategy.root_device


def trainer(where: RunContext, callbacks: list[Callback], **options: Any) -> pl.Trainer:
    """Return a Lightning Trainer for one phase."""
    several = collectives.size() > 1
    return pl.Trainer(
        accelerator=where.trainer.accelerator,
        devices=(where.trainer.devices or 1) if several else 1,
        num_nodes=where.trainer.nodes if several else 1,
        # batches have one size, so it pays to try the kernels once
        benchmark=environment.on_gpu(where.trainer),
        # buffers are what BatchNorm and the masks make of them: see modules/batch_norm.py and
        # collectives.broadcast_masks
        strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
        logger=False,  # a job has one logger for all of its phases, which ``Curves`` tells
        callbacks=callbacks,
        plugins=[AtomicCheckpoint(), environment.cluster_environment()],
        inference_mode=False,  # attacks differentiate, also while validating
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=False,  # ``ShowProgress`` is ours
        use_distributed_sampler=False,
        **options,
    )


def fit(
    where: RunContext,
    module: Any,
    datamodule: Any,
    work: Path,
    *,
    epochs: int,
    callbacks: list[Callback],
) -> None:
    """Train to the end, from the last checkpoint in ``work`` if there is one.

    Args:
        where: the job runs.
        module: that is trained.
        datamodule: with its images.
        work: folder of the checkpoint.
        epochs: passes over the images.
        callbacks: of this phase.

    Raises:
        Stopped: if the process was asked to stop; a checkpoint is written first.
    """
    folder, last = where.folder or where.output, work / "last.ckpt"
    log_row = partial((where.logger if collectives.is_rank_zero() else Logger()).point, where.stage)
    curves = Curves(folder / CURVES, work.name, log_row)
    goes_on = collectives.broadcast_object(
        str(last) if collectives.is_rank_zero() and is_whole_checkpoint(last) else None
    )
    collectives.check_same_work(datamodule)
    # a rank's BatchNorm sees its own rows alone
    if collectives.size() > 1 and where.trainer.batch_norm != "synchronised":
        datamodule.least = 2 * collectives.size()
    first = [*callbacks, *_reports(where, folder), *_average(module.recipe.ema)]
    shown = shown_progress(where.title, where.stage)
    every = [*first, curves, StopWhenAsked(last), _saved_each_epoch(work), shown]
    run = trainer(where, every, max_epochs=epochs, gradient_clip_val=module.recipe.clip)
    datamodule.setup("fit")  # its image_size may be known only then
    datamodule.to(run.strategy.root_device)
    module.batch_norm, module.precision = where.trainer.batch_norm, where.trainer.precision
    over_all = collectives.size() > 1 and where.trainer.batch_norm == "synchronised"
    with (
        synchronised(module.net) if over_all else nullcontext(),
        optimized_layout(module.net, where.trainer, datamodule.image_size),
        preemption.postponed(),
    ):
        interruptible(run, lambda: run.fit(module, datamodule=datamodule, ckpt_path=goes_on))
    if collectives.is_rank_zero():
        curves.save()


@contextmanager
def optimized_layout(net: nn.Module, trainer: Trainer, image_size: int) -> Iterator[None]:
    """Inside, the network is laid out and compiled as the trainer says; only rounding may differ.

    Images need no change: a convolution gives what it gives in the layout of its weights.

    Args:
        net: a network, or one seen through masks: then its plain network is compiled.
        trainer: its options ``memory_format`` and ``compile``.
        image_size: side of the images in pixels.
    """
    inner, mode = net.net if isinstance(net, Subnet) else net, trainer.compile
    net.to(memory_format=layout(trainer, image_size))
    if mode is not None:
        inner.compile(mode=mode)
    try:
        with compiling(mode):
            yield
    finally:
        inner._compiled_call_impl = None
        net.to(memory_format=torch.contiguous_format)


def layout(trainer: Trainer, image_size: int) -> torch.memory_format:
    """Return the memory format of weights: the one asked for, or the one measured faster."""
    small = image_size <= SMALL_IMAGE
    chosen = trainer.memory_format or ("contiguous" if small else "channels_last")
    return torch.channels_last if chosen == "channels_last" else torch.contiguous_format


def _reports(where: RunContext, folder: Path) -> list[Callback]:
    """Report each epoch to a search for options, if it is after this stage's accuracy."""
    trial = os.environ.get(TRIAL_VARIABLE) if where.reported == folder.name else None
    return [] if trial is None else [ReportEpochs(Trial(trial).report)]


def _average(decay: float | None) -> list[Callback]:
    """Average the weights over the steps, which is then validated and kept; None does not."""
    return [] if decay is None else [EMAWeightAveraging(use_buffers=False, decay=decay)]


def _saved_each_epoch(work: Path) -> ModelCheckpoint:
    """Return what writes ``work/last.ckpt`` at the end of each epoch."""
    return ModelCheckpoint(
        work,
        filename="last",
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
