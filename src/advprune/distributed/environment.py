"""Read which ranks and devices a job asks for, whether they are there, and connect a rank.

Only functions that look at a device import torch, so that a command with a typo fails at once.
"""

import os
from typing import TYPE_CHECKING, Any

from advprune.errors import UserError
from advprune.runtime.machine import usable_processors

if TYPE_CHECKING:
    from pytorch_lightning.plugins.environments import ClusterEnvironment

#: Of ``trainer.batch_norm``; the first changes no result.
SYNCHRONISED = "synchronised"


def launched_world() -> tuple[int, int]:
    """Return (rank, number of ranks) as torchrun or srun started them; (0, 1) for a lone process.

    A batch script that forgets srun sees SLURM's variables too, but not those of a step.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def requested_ranks(trainer: dict[str, Any]) -> int | None:
    """Return how many ranks the options ask for; None if that depends on the machine."""
    devices = trainer.get("devices", 1)
    return None if devices is None else int(devices) * int(trainer.get("nodes") or 1)


def identity(trainer: dict[str, Any] | None) -> dict[str, Any]:
    """Return the trainer's options that decide the weights a training ends with; {} by default.

    They are a precision other than fp32, and BatchNorm that uses the images of one rank only. What
    changes no more than the last bits of a sum is not among them.
    """
    trainer = trainer or {}
    mode, ranks = trainer.get("batch_norm") or SYNCHRONISED, requested_ranks(trainer)
    spread = (
        {} if mode == SYNCHRONISED or ranks == 1 else {"batch_norm": {"mode": mode, "ranks": ranks}}
    )
    precision = trainer.get("precision", "fp32")
    return spread | ({} if precision == "fp32" else {"precision": precision})


def check(trainer: dict[str, Any]) -> None:
    """Check that the trainer's options fit together, without looking at a device.

    Raises:
        UserError: naming the option.
    """
    mode, ranks = trainer.get("batch_norm", SYNCHRONISED), requested_ranks(trainer)
    if ranks is None and mode != SYNCHRONISED:
        raise UserError(
            f"trainer.batch_norm={mode} makes the result depend on the number of ranks: give "
            "trainer.devices=…, too"
        )
    started = launched_world()[1]
    if started > 1 and ranks not in (started, None):
        raise UserError(
            f"{started} processes were started for this job, but "
            f"trainer.devices={trainer['devices']} and trainer.nodes={trainer.get('nodes', 1)} ask "
            f"for {ranks}: give trainer=ddp and numbers that multiply to {started}"
        )
    if started == 1 and int(trainer.get("nodes") or 1) > 1:
        raise UserError(
            f"trainer.nodes={trainer['nodes']}, but only one process was started: give "
            "hydra/launcher=slurm, or start the same command on each node with torchrun or srun, "
            "one process a device"
        )


def on_gpu(trainer: dict[str, Any]) -> bool:
    """Return whether the job runs on CUDA devices."""
    from torch import cuda

    accelerator = trainer["accelerator"]
    return accelerator in ("cuda", "gpu") or (accelerator == "auto" and cuda.is_available())


def with_device_count(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's options with the number of devices a node filled in.

    Raises:
        UserError: if there are fewer GPUs than asked for, or none to count.
    """
    if on_gpu(trainer):
        return trainer | {"devices": _gpus(trainer["devices"], trainer["accelerator"])}
    devices = trainer["devices"]
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


def _gpus(wanted: int | None, accelerator: str) -> int:
    """Return how many GPUs the job uses: those it wants, or all."""
    from torch import cuda

    available = cuda.device_count()
    if not available:
        raise UserError(
            f"trainer.accelerator={accelerator} needs a GPU that torch can use, and "
            "there is none: give trainer=cpu, or trainer.accelerator=cpu"
        )
    if wanted is not None and wanted > available:
        gpus = "one GPU" if available == 1 else f"{available} GPUs"
        raise UserError(
            f"trainer.devices={wanted} is not possible: this machine has {gpus}; give at most "
            f"{available}, or trainer.accelerator=cpu for processes of the processor"
        )
    return available if wanted is None else wanted


def cluster_environment() -> "ClusterEnvironment":
    """Return where Lightning reads this process's rank; of a process alone, its own default."""
    from pytorch_lightning.plugins.environments import LightningEnvironment

    from advprune.distributed import collectives

    return LightningEnvironment() if collectives.size() == 1 else _environment_of_ranks()


def _environment_of_ranks() -> "ClusterEnvironment":
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SLURMEnvironment(auto_requeue=False)


def join_ranks(trainer: dict[str, Any]) -> None:
    """Meet the other ranks of this job, whoever started them."""
    from torch import cuda

    from advprune.distributed import collectives

    place, gpu = _environment_of_ranks(), on_gpu(trainer)
    if gpu:
        cuda.set_device(place.local_rank())
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
