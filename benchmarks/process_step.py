"""Compare a step of each pruner that trains with the plain step: python -m benchmarks process_step

ResNet-18, TRADES-10, optimizer included, at ratio 0.9: what ``modules/pruner_training.py`` does in
a step, against the same step of the dense network, taken in turns in one process, medians. Flying
Bird's is a step without an update of its masks, of which there is one in about a thousand. The peak
of memory is each one's in a process of its own, as in ``peak_memory.py``. ``ADVPRUNE_BATCH`` and
``ADVPRUNE_ROUNDS`` set the batch and the rounds.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from advprune.masks import prunable
from advprune.objectives.trades import trades
from advprune.pruners import scopes
from advprune.pruners.flying_bird import FlyingBird
from advprune.pruners.harp import Harp
from advprune.pruners.hydra import Hydra
from advprune.pruners.iht import Iht
from advprune.pruners.process import Moment, Process
from advprune.pruners.task import Task
from advprune.surgery.subnet import Subnet
from benchmarks._turns import DEVICE, in_turns, place
from benchmarks.peak_memory import resident
from benchmarks.training_step import ATTACK, optimizer, ours, resnet18

BATCH = int(os.environ.get("ADVPRUNE_BATCH", "64"))
ROUNDS = int(os.environ.get("ADVPRUNE_ROUNDS", "20" if DEVICE == "cuda" else "3"))
PROCESSES: dict[str, type[Process]] = {
    "hydra": Hydra,
    "flying_bird": FlyingBird,
    "harp": Harp,
    "iht": Iht,
}
#: Of the plain step's time; iht has none.
BARS = {"hydra": 1.08, "flying_bird": 1.03, "harp": 1.12}
NOW = Moment(step=10, steps=78_000, epoch=0, epochs=200)


def pruned(kind: type[Process], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return a step with a process."""
    net = resnet18()
    task = Task(0.9, partial(scopes.spend, scope="layer"), tuple(prunable(net)), ratios=(0.9,))
    process = kind(net, task).to(DEVICE)
    process.groups(net)
    subnet = Subnet(net, process=process)
    process.start(net, [])
    steps = optimizer(subnet, ours=True)

    def call() -> None:
        subnet.train()
        with torch.no_grad():
            process.before_step(NOW)
            process.choose(NOW)
        subnet.refresh()
        loss = trades(subnet, x, y, progress=0.0, attack=ATTACK)
        penalty = process.penalty(NOW)
        steps.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        with torch.no_grad():
            process.after_backward(NOW)
            steps.step()
            process.after_step(NOW, steps)

    return call


def step_of(name: str) -> Callable[[], None]:
    """Return the step of a process, or the plain one."""
    x = torch.rand(BATCH, 3, 32, 32, device=DEVICE)
    y = torch.randint(10, (BATCH,), device=DEVICE)
    return ours(resnet18(), x, y, "fp32") if name == "plain" else pruned(PROCESSES[name], x, y)


def peak(name: str) -> int:
    """Return the bytes at the peak of two steps."""
    torch.set_num_threads(1)
    step_of("plain")  # what is imported and allocated anyway
    before, step = resident("VmRSS"), step_of(name)
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else resident("VmHWM") - before


def peaks() -> dict[str, int]:
    """Return the peak of each in a process of its own."""
    found = {}
    for name in ("plain", *PROCESSES):
        code = f"from benchmarks.process_step import peak; print(peak({name!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found[name] = int(done.stdout)
    return found


def run() -> list[dict[str, Any]]:
    """Return one row of time and one of memory for each process."""
    torch.set_num_threads(1)
    taken = in_turns({name: step_of(name) for name in ("plain", *PROCESSES)}, ROUNDS)
    memory = peaks()
    rows = []
    for name in PROCESSES:
        ratio = statistics.median(
            own / plain for own, plain in zip(taken[name], taken["plain"], strict=True)
        )
        bar = f"<= {BARS[name]}x" if name in BARS else "reported"
        what = f"{name}: a step, ResNet-18, TRADES-10, batch {BATCH}, {place()}"
        against = f"plain: {statistics.median(taken['plain']):.3g} s"
        rows.append({"what": what, "against": against, "bar": bar, "measured": f"{ratio:.3f}x"})
        rows.append(
            {
                "what": f"{name}: its peak of memory",
                "against": f"plain: {memory['plain'] / 2**20:.0f} MiB",
                "bar": "<= 1.1x",
                "measured": f"{memory[name] / memory['plain']:.3f}x",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
