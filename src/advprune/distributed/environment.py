"""Read, without torch, how many ranks a job asks for and whether they are started already."""

import os
from typing import Any

from advprune.errors import UserError

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
