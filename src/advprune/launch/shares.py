"""Divide this machine among the jobs of a grid that run at the same time."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advprune.errors import UserError


@dataclass(frozen=True)
class Share:
    """Describe the part of the machine that a job gets; which cores it runs on, the system decides.

    Attributes:
        processors: how many it may keep busy, with threads or with ranks.
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them.
    """

    processors: int = 1
    gpus: tuple[str, ...] = ()


def shares(
    count: int, gpus: Sequence[str], gpus_per_job: int | None, processors: int
) -> list[Share]:
    """Divide the machine: return the share of each job that runs at the same time.

    Args:
        count: how many.
        gpus: that may be used.
        gpus_per_job: how many each job gets; None: all.
        processors: that may be kept busy.
    """
    own = len(gpus) if gpus_per_job is None else gpus_per_job
    return [
        Share(max(processors // count, 1), tuple(gpus[place * own : (place + 1) * own]))
        for place in range(count)
    ]


def at_once(options: dict[str, Any], gpus: Sequence[str], processors: int) -> int:
    """Return how many jobs the machine runs at the same time, as far as memory reaches.

    It is one a GPU, or one a processor where there is none; fewer if a job is spread over several.

    Args:
        options: of the launcher.
        gpus: that may be used.
        processors: that may be kept busy.

    Raises:
        UserError: if there are not enough GPUs.
    """
    jobs, each = options["jobs"], options["gpus_per_job"]
    most = carried(options, gpus, processors)
    if gpus and each != 0 and (most < 1 or (jobs or 0) > most):
        raise UserError(
            f"hydra.launcher.jobs={jobs or 1} with {each or len(gpus)} GPUs each is not possible, "
            f"with {len(gpus)} here: give hydra.launcher.jobs={max(most, 1)}, or "
            "hydra.launcher.gpus_per_job=0 for jobs that need none"
        )
    return jobs or max(most, 1)


def carried(options: dict[str, Any], gpus: Sequence[str], processors: int) -> int:
    """Return for how many jobs there are GPUs or, where there is none to use, processors."""
    each = options["gpus_per_job"]
    if not gpus or each == 0:
        return processors // (each or 1)
    return len(gpus) // (each or len(gpus))


def usable_gpus(options: dict[str, Any]) -> list[str]:
    """Return the GPUs that the launcher's options let jobs use."""
    return [] if options["accelerator"] == "cpu" else visible_gpus(options["gpus"])


def visible_gpus(names: list[Any] | None) -> list[str]:
    """Return the GPUs this process may use, by ``CUDA_VISIBLE_DEVICES`` or NVIDIA's own tool."""
    if names is not None:
        return [str(gpu) for gpu in names]
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if gpu.strip()]
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(place) for place in range(len(answer.stdout.splitlines()))]


def neighbours(processors: int) -> str | None:
    """Say that others keep the processors busy which jobs are about to use; None if they do not.

    Args:
        processors: that jobs are about to keep busy.
    """
    present, load = os.cpu_count() or 1, os.getloadavg()[0]
    if present - load > processors - 1:
        return None
    return (
        f"other processes keep {min(load, present):.1f} of this machine's {present} cores busy: "
        "jobs take turns with them; hydra.launcher.jobs=N runs fewer at a time"
    )
