"""Compare a step of each pruner that trains, of AWP and of S2AP, with its host's step.

    python -m benchmarks process_step

ResNet-18, TRADES-10, optimizer included, at ratio 0.9: what ``modules/pruner_training.py`` does in
a step, against the same step of the dense network, and S2AP's against HYDRA's; taken in turns in
one process, medians. Flying Bird's is a step without an update of its masks, of which there is one
in about a thousand.

A perturbed step takes the loss and its gradient once more, and no attack. Where a backward to the
weights is as dear as two forwards, and one to the pixels as one, a TRADES-10 step is 27 forwards
(the natural prediction 1, the attack 20, the loss 6), and AWP's 33/27 = 1.22 times that; a PGD-10
step is 23 forwards, and AWP's 26/23 = 1.13 times that.

The peak of memory is each one's in a process of its own, as in ``peak_memory.py``, with one attack
step, which it does not depend on. ``ADVPRUNE_BATCH`` and ``ADVPRUNE_ROUNDS`` set the batch and the
rounds.
"""

import os
import statistics
import subprocess
import sys
from typing import Any

import torch

from benchmarks._process_steps import BATCH, KINDS, step_of
from benchmarks._turns import DEVICE, in_turns, place
from benchmarks.peak_memory import resident

ROUNDS = int(os.environ.get("ADVPRUNE_ROUNDS", "20" if DEVICE == "cuda" else "3"))


def peak(name: str) -> int:
    """Return the bytes at the peak of two steps."""
    torch.set_num_threads(1)
    step_of(name, attack_steps=1)  # what is imported and allocated anyway
    before, step = resident("VmRSS"), step_of(name, attack_steps=1)
    for _ in range(2):
        step()
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else resident("VmHWM") - before


def peaks() -> dict[str, int]:
    """Return the peak of each in a process of its own."""
    found = {}
    for name in KINDS:
        code = f"from benchmarks.process_step import peak; print(peak({name!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        found[name] = int(done.stdout)
    return found


def run() -> list[dict[str, Any]]:
    """Return one row of time and one of memory for each."""
    torch.set_num_threads(1)
    taken = in_turns({name: step_of(name) for name in KINDS}, ROUNDS)
    memory = peaks()
    rows = []
    for name, kind in KINDS.items():
        if kind.host is None:
            continue
        pairs = zip(taken[name], taken[kind.host], strict=True)
        ratio = statistics.median(own / host for own, host in pairs)
        what = f"{name}: a step, ResNet-18, {kind.objective}, batch {BATCH}, {place()}"
        against = f"{kind.host}: {statistics.median(taken[kind.host]):.3g} s"
        rows.append(
            {"what": what, "against": against, "bar": kind.bar, "measured": f"{ratio:.3f}x"}
        )
        rows.append(
            {
                "what": f"{name}: its peak of memory",
                "against": f"{kind.host}: {memory[kind.host] / 2**20:.0f} MiB",
                "bar": "<= 1.1x",
                "measured": f"{memory[name] / memory[kind.host]:.3f}x",
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
