"""Count a job's devices, refuse it if there are too few, and connect a rank to the others."""

from typing import Any

import torch
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from advprune.distributed import collectives
from advprune.errors import UserError
from advprune.runtime.processors import usable_processors


def on_gpu(trainer: dict[str, Any]) -> bool:
    """Return whether the job runs on CUDA devices."""
    accelerator = trainer["accelerator"]
    return accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available())


def settled(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's options with the number of devices a node filled in.

    Raises:
        UserError: if there are fewer GPUs than asked for, or none to count.
    """
    available, devices = torch.cuda.device_count(), trainer["devices"]
    if not on_gpu(trainer):
        if devices is None:
            raise UserError(
                "trainer.devices is not given, and there is no GPU to count: give the number of "
                "processes, such as trainer.devices=2"
            )
        if devices > 1 and trainer["accelerator"] not in ("cpu", "auto"):
            raise UserError(
                f"trainer.accelerator={trainer['accelerator']} has one device: give "
                "trainer.devices=1, or cuda or cpu"
            )
        return trainer | {"accelerator": "cpu"} if devices > 1 else trainer
    if not available:
        raise UserError(
            f"trainer.accelerator={trainer['accelerator']} needs a GPU that torch can use, and "
            "there is none: give trainer=cpu, or trainer.accelerator=cpu"
        )
    if devices is not None and devices > available:
        gpus = "one GPU" if available == 1 else f"{available} GPUs"
        raise UserError(
            f"trainer.devices={devices} is not possible: this machine has {gpus}; give at most "
            f"{available}, or trainer.accelerator=cpu for processes of the processor"
        )
    return trainer | {"devices": available if devices is None else devices}


def environment() -> ClusterEnvironment:
    """Return where Lightning reads this process's rank; of a process alone, its own default."""
    if collectives.size() == 1:
        return LightningEnvironment()
    return (
        TorchElasticEnvironment()
        if TorchElasticEnvironment.detect()
        else SLURMEnvironment(auto_requeue=False)
    )


def join(trainer: dict[str, Any]) -> None:
    """Meet the other ranks of this job, whoever started them."""
    elastic = TorchElasticEnvironment.detect()
    place: ClusterEnvironment = (
        TorchElasticEnvironment() if elastic else SLURMEnvironment(auto_requeue=False)
    )
    gpu = on_gpu(trainer)
    if gpu:
        torch.cuda.set_device(place.local_rank())
    collectives.join(
        "nccl" if gpu else "gloo",
        rank=place.global_rank(),
        size=place.world_size(),
        address=place.main_address,
        port=place.main_port,
    )


def threads(trainer: dict[str, Any]) -> int | None:
    """Return how many processor threads each rank of this machine gets; None leaves it to torch."""
    return max(usable_processors() // trainer["devices"], 1) if trainer["devices"] > 1 else None
