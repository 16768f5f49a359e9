"""Compare an evaluation on two ranks with one: python -m benchmarks.ddp_evaluation

Both attack the same images by the same network through the stage's own module and Lightning's
Trainer, one thread a process, as a user's job does; what is timed is the evaluation itself, not the
start of the ranks, which a job has once (and a grid of jobs once). They take turns, so that
whatever else the machine does falls on both: while rank 0 works alone, rank 1 waits in a socket and
costs nothing. The bar holds where each process has a core of its own: the benchmark also times a
fixed piece of arithmetic alone and on both ranks at once, which tells what two cores were worth
then.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advprune.attacks.pgd import pgd
from advprune.datasets.images import Split
from advprune.datasets.loader import EvalLoader
from advprune.distributed import collectives, environment
from advprune.distributed.environment import Trainer
from advprune.distributed.sharding import Shard
from advprune.modules.evaluation import RobustEvaluation
from advprune.pipeline.spawn import on_ranks
from advprune.stages.training_phase import RunContext, trainer
from advprune.threat import Linf
from advprune.tracking.logger import Logger

IMAGES, BATCH, STEPS, ROUNDS = 1024, 64, 20, 5
PLACE = RunContext(Trainer(accelerator="cpu", devices=2), Logger(), Path("unused"))


def evaluate(folder: str, name: str) -> None:
    """Attack all images, or this rank's batches of them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 10),
    ).eval()
    pixels = torch.randint(256, (IMAGES, 3, 32, 32), dtype=torch.uint8)
    images, share = (
        Split(pixels, torch.randint(10, (IMAGES,))),
        Shard(collectives.rank(), collectives.size()),
    )
    parts = Path(folder) / name
    parts.mkdir(exist_ok=True)
    ball = Linf("8/255")
    module = RobustEvaluation(
        net, partial(pgd, threat=ball, steps=STEPS), name="pgd", threat=ball, parts=parts, seed=0
    )
    module.share = share
    run = trainer(PLACE, [], enable_checkpointing=False)
    run.test(
        module, EvalLoader(images, batch_size=BATCH, positions=True, share=share), verbose=False
    )


def arithmetic() -> None:
    """Compute what no data and no other rank can slow down."""
    x = torch.rand(300, 300)
    for _ in range(300):
        x = (x @ x).clamp(0, 1)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds until the last rank is done, all started at once."""
    collectives.all_gather_object(None)
    start = time.perf_counter()
    work()
    collectives.all_gather_object(None)
    return time.perf_counter() - start


def measure(folder: str) -> dict[str, list[float]]:
    """Time, on each rank, rounds of one rank alone and of both together, in turns."""
    environment.join_ranks(PLACE.trainer)
    environment.settle(PLACE.trainer, 8)

    def alone(work: Callable[[], Any]) -> float:
        def first() -> None:
            if collectives.is_rank_zero():
                with collectives.without_communication():
                    work()

        return timed(first)

    seconds: dict[str, list[float]] = {
        "one": [],
        "two": [],
        "arithmetic one": [],
        "arithmetic two": [],
    }
    for number in range(ROUNDS + 1):
        seconds["one"].append(alone(lambda number=number: evaluate(folder, f"one_{number}")))
        seconds["two"].append(timed(lambda number=number: evaluate(folder, f"two_{number}")))
        seconds["arithmetic one"].append(alone(arithmetic))
        seconds["arithmetic two"].append(timed(arithmetic))
    collectives.leave()
    return {name: values[1:] for name, values in seconds.items()}  # the first round warms up


def run() -> list[dict[str, Any]]:
    """Return one row for each claim."""
    with tempfile.TemporaryDirectory(prefix="advprune_") as folder:
        seconds = on_ranks(2, measure, folder)[0]
        equal = all(
            (Path(folder) / "one_1" / path.name).read_text() == path.read_text()
            for path in Path(folder).glob("two_1/*.json")
        )
    pairs = {
        name: zip(seconds[f"{name}one"], seconds[f"{name}two"], strict=True)
        for name in ("", "arithmetic ")
    }
    faster = statistics.median(one / two for one, two in pairs[""])
    cores = statistics.median(2 * one / two for one, two in pairs["arithmetic "])
    against = f"one process, {IMAGES} images, PGD-{STEPS}, {ROUNDS} rounds in turns"
    return [
        {
            "what": "evaluation on 2 ranks, throughput",
            "against": against,
            "bar": ">= 1.8 (0.9 R)",
            "measured": faster,
        },
        {
            "what": "the same records",
            "against": "one process",
            "bar": "all",
            "measured": "all" if equal else "NO",
        },
        {
            "what": "what two processes were worth",
            "against": "matrix products",
            "bar": "near 2",
            "measured": cores,
        },
    ]


if __name__ == "__main__":
    for row in run():
        shown = f"{row['measured']:.3g}" if isinstance(row["measured"], float) else row["measured"]
        print(f"{row['what']:36} {shown:>8}   bar {row['bar']:8} against {row['against']}")
