"""Compare the peak memory of a TRADES-10 step of ResNet-18: python -m benchmarks peak_memory

The authors' step rendered literally and as a plain loop has it, and ours, each in a process of its
own that takes two steps. On a processor the most memory the process ever had, less what it had with
the network and the images there; on a GPU torch's own count. ``ADVPRUNE_BATCH`` sets the batch.
"""

import os
import subprocess
import sys
from typing import Any

import torch

from benchmarks._turns import DEVICE

ON_GPU = DEVICE == "cuda"
BATCH = os.environ.get("ADVPRUNE_BATCH", "256" if ON_GPU else "64")
STEPS = 2


def resident(name: str) -> int:
    """Return VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status") as status:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def measure(way: str) -> int:
    """Return the bytes at the peak of two steps; ``way`` is theirs, fp32 or bf16."""
    from advprune.distributed.environment import Trainer
    from advprune.runtime import speed
    from advprune.stages.training_phase import optimized_layout
    from benchmarks.training_step import ours, resnet18, theirs

    torch.set_num_threads(1)
    if way != "theirs":
        speed.keep_freed_memory()
    net = resnet18()
    x, y = (
        torch.rand(int(BATCH), 3, 32, 32, device=DEVICE),
        torch.randint(10, (int(BATCH),), device=DEVICE),
    )
    before = resident("VmRSS")
    with optimized_layout(
        net, Trainer(memory_format="contiguous" if way == "theirs" else None), 32
    ):
        step = theirs(net, x, y) if way == "theirs" else ours(net, x, y, way)
        for _ in range(STEPS):
            step()
    return torch.cuda.max_memory_allocated() if ON_GPU else resident("VmHWM") - before


def run() -> list[dict[str, Any]]:
    """Return one row for each way of ours."""
    mebibytes = {}
    for way in ("theirs", "fp32", "bf16"):
        code = f"from benchmarks.peak_memory import measure; print(measure({way!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        mebibytes[way] = int(done.stdout) / 2**20
    where = torch.cuda.get_device_name() if ON_GPU else "processor"
    return [
        {
            "what": f"peak memory, TRADES-10 step, ResNet-18, batch {BATCH}, {way}, {where}",
            "against": f"the authors' loop, rendered: {mebibytes['theirs']:.0f} MiB",
            "bar": "<= 1.0x",
            "measured": f"{mebibytes[way] / mebibytes['theirs']:.2f}x ({mebibytes[way]:.0f} MiB)",
        }
        for way in ("fp32", "bf16")
    ]


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
