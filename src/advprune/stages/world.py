"""How many ranks a job asks for, and whether torchrun or srun has started them already: told without torch."""

import os
from typing import Any

from advprune.errors import UserError

MODES = ("synchronised", "local", "rank0")
#: Options of the trainer that are one of a few words; the first is the default.
WORDS = {
    "batch_norm": MODES,
    "precision": ("fp32", "bf16"),
    "memory_format": (None, "contiguous", "channels_last"),
    "compile": (None, "default", "reduce-overhead", "max-autotune"),
    "allocator": ("keep", "system"),
}


def started() -> tuple[int, int]:
    """(rank, number of ranks) of a process that torchrun or srun started beside others; else (0, 1).

    A batch script that forgets srun sees SLURM's variables too, but not those of a step.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def asked(trainer: dict[str, Any]) -> int | None:
    """How many ranks the options ask for; None if that depends on the machine."""
    devices = trainer.get("devices", 1)
    return None if devices is None else int(devices) * int(trainer.get("nodes") or 1)


def identity(trainer: dict[str, Any] | None) -> dict[str, Any]:
    """What of it decides the weights a training ends with: a precision other than fp32, and BatchNorm that sees a
    rank's images only; nothing by default. What changes no more than the last bits of a sum is not in it.
    """
    trainer = trainer or {}
    mode, ranks = trainer.get("batch_norm") or MODES[0], asked(trainer)
    spread = {} if mode == MODES[0] or ranks == 1 else {"batch_norm": {"mode": mode, "ranks": ranks}}
    precision = trainer.get("precision", "fp32")
    return spread | ({} if precision == "fp32" else {"precision": precision})


def check(trainer: dict[str, Any]) -> None:
    """The rules that need no device to be looked at.

    Raises:
        UserError: naming the option.
    """
    for name in ("devices", "nodes", "retries"):
        value, least = trainer.get(name, 1), 0 if name == "retries" else 1
        counted = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not counted and not (name == "devices" and value is None):
            raise UserError(f"trainer.{name}={value} is not possible: give a number from {least} up")
    for name, allowed in WORDS.items():
        words = ", ".join("null" if word is None else word for word in allowed)
        if trainer.get(name, allowed[0]) not in allowed:
            raise UserError(f"trainer.{name}={trainer[name]} is not known: give one of {words}")
    mode, ranks = trainer.get("batch_norm", MODES[0]), asked(trainer)
    if ranks is None and mode != MODES[0]:
        raise UserError(
            f"trainer.batch_norm={mode} makes the result depend on the number of ranks: give trainer.devices=…, too"
        )
    beside = started()[1]
    if beside > 1 and ranks not in (beside, None):
        raise UserError(
            f"{beside} processes were started for this job, but trainer.devices={trainer['devices']} and trainer.nodes="
            f"{trainer.get('nodes', 1)} ask for {ranks}: give trainer=ddp and numbers that multiply to {beside}"
        )
    if beside == 1 and int(trainer.get("nodes") or 1) > 1:
        raise UserError(
            f"trainer.nodes={trainer['nodes']}, but only one process was started: give hydra/launcher=slurm, or start "
            "the same command on each node with torchrun or srun, one process a device"
        )
