"""Read which ranks and devices a job asks for, whether they are there; set up and connect a rank.

Only functions that look at a device import torch, so that a command with a typo fails at once.
"""

import logging
import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from advprune.errors import UserError
from advprune.runtime.provenance import usable_processors

if TYPE_CHECKING:
    from pytorch_lightning.plugins.environments import ClusterEnvironment

Precision = Literal["fp32", "bf16"]
Several = Annotated[int, Ge(1), Le(4096)]
#: Of ``trainer.batch_norm``; the first changes no result.
SYNCHRONISED = "synchronised"
#: Side in pixels up to which images are as light as the default ones: a job takes no more memory,
#: and neither a second thread nor a layout made it faster; see docs/performance.md.
SMALL_IMAGE = 16


@dataclass(frozen=True)
class Trainer:
    """Declare where a job runs and how fast; ``conf/trainer/auto.yaml`` explains each option."""

    accelerator: Literal["auto", "cpu", "cuda", "gpu", "mps"] = "auto"
    devices: Several | None = 1
    nodes: Several = 1
    threads: Several | None = None
    precision: Precision = "fp32"
    memory_format: Literal["contiguous", "channels_last"] | None = None
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    allocator: Literal["keep", "system"] = "keep"
    batch_norm: Literal["synchronised", "local", "rank0"] = "synchronised"
    retries: Annotated[int, Ge(0), Le(100)] = 1

    @property
    def ranks(self) -> int | None:
        """Return how many ranks are asked for; None if that depends on the machine."""
        return None if self.devices is None else self.devices * self.nodes

    @property
    def identity(self) -> dict[str, Any]:
        """Return what decides the weights that a training ends with; {} by default.

        That is a precision other than fp32, and BatchNorm that uses the images of one rank only.
        What changes no more than the last bits of a sum is not in it.
        """
        own_rows = self.batch_norm != SYNCHRONISED and self.ranks != 1
        spread = {"batch_norm": {"mode": self.batch_norm, "ranks": self.ranks}} if own_rows else {}
        return spread | ({} if self.precision == "fp32" else {"precision": self.precision})


def launched_world() -> tuple[int, int]:
    """Return (rank, number of ranks) as torchrun or srun started them; (0, 1) for a lone process.

    A batch script that forgets srun sees SLURM's variables too, but not those of a step.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def check(trainer: Trainer) -> None:
    """Check that the trainer's options fit together, without looking at a device.

    Raises:
        UserError: naming the option.
    """
    if trainer.ranks is None and trainer.batch_norm != SYNCHRONISED:
        raise UserError(
            f"trainer.batch_norm={trainer.batch_norm} makes the result depend on the number of "
            "ranks: give trainer.devices=…, too"
        )
    started = launched_world()[1]
    if started > 1 and trainer.ranks not in (started, None):
        raise UserError(
            f"{started} processes were started for this job, but trainer.devices={trainer.devices} "
            f"and trainer.nodes={trainer.nodes} ask for {trainer.ranks}: give trainer=ddp and "
            f"numbers that multiply to {started}"
        )
    if started == 1 and trainer.nodes > 1:
        raise UserError(
            f"trainer.nodes={trainer.nodes}, but only one process was started: give "
            "hydra/launcher=slurm, or start the same command on each node with torchrun or srun, "
            "one process a device"
        )


def on_gpu(trainer: Trainer) -> bool:
    """Return whether the job runs on CUDA devices."""
    from torch import cuda

    accelerator = trainer.accelerator
    return accelerator in ("cuda", "gpu") or (accelerator == "auto" and cuda.is_available())


def with_device_count(trainer: Trainer) -> Trainer:
    """Return the trainer's options with the number of devices a node filled in.

    Raises:
        UserError: if there are fewer GPUs than asked for, or none to count.
    """
    if on_gpu(trainer):
        return replace(trainer, devices=_gpus(trainer.devices, trainer.accelerator))
    devices = trainer.devices
    if devices is None:
        raise UserError(
            "trainer.devices is not given, and there is no GPU to count: give the number of "
            "processes, such as trainer.devices=2"
        )
    if devices > 1 and trainer.accelerator not in ("cpu", "auto"):
        raise UserError(
            f"trainer.accelerator={trainer.accelerator} has one device: give "
            "trainer.devices=1, or cuda or cpu"
        )
    return replace(trainer, accelerator="cpu") if devices > 1 else trainer


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


def join_ranks(trainer: Trainer) -> None:
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


def settle(trainer: Trainer, image_size: int) -> None:
    """Apply what holds for the whole process, and silence notices that are not for the user.

    On images as small as the digits, two threads wait for each other more than they help: on two
    busy cores a TRADES-7 step took 33 ms with one thread and 210 to 660 ms with two.

    Args:
        trainer: its options ``allocator`` and ``threads``; several ranks of a machine share its
            processors.
        image_size: side of the images in pixels.
    """
    import torch

    from advprune.runtime.speed import keep_freed_memory

    if trainer.allocator == "keep":
        keep_freed_memory()
    ranks = trainer.devices or 1
    shared = max(usable_processors() // ranks, 1) if ranks > 1 else None
    threads = trainer.threads or (1 if image_size <= SMALL_IMAGE else shared)
    if threads:
        torch.set_num_threads(threads)
    for name in ("pytorch_lightning", "lightning.fabric", "lightning_fabric", "auto-attack"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", module="pytorch_lightning|lightning_fabric|lightning_utilities"
    )
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
