"""Measure what verified training costs: python -m benchmarks.verified_step [device]

A step is forward and backward to the weights' gradients, without the optimizer's, the same for all;
the natural one is cross-entropy on the same network and images. On a processor it is timed by its
own seconds on one thread, for those of a neighbour are not its cost. IBP once its natural loss has
weight 0 (so the clean images are not looked at) makes two passes of the layers, on centres and on
radii, where natural training makes one; with both losses three. CROWN-IBP goes back from nine
margins an image over the whole network: counted in multiplications that is nine forwards against
IBP's two, and what it takes in time is decided by how well the device does nine times the batch. A
step of CROWN-IBP training costs that while eps grows; from then on it is one of IBP.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from advprune.bounds.interval import ibp as ibp_bound
from advprune.bounds.linear import crown_ibp as crown_ibp_bound
from advprune.models.hydra_cnn import cnn_large, cnn_small
from advprune.objectives.crown_ibp import crown_ibp
from advprune.objectives.ibp import ibp
from advprune.objectives.natural import natural
from advprune.runtime import speed
from advprune.threat import Linf
from benchmarks._turns import CIFAR, DEVICE, in_turns

BALL = Linf(2 / 255)
Goal = Callable[..., Tensor]


def ratio(calls: tuple[Callable[[], Any], Callable[[], Any]], rounds: int) -> float:
    """Median time of one over that of the other, taken in turns."""
    times = in_turns(dict(zip(("dear", "cheap"), calls, strict=True)), rounds, warm=2)
    return statistics.median(times["dear"]) / statistics.median(times["cheap"])


def step(net: nn.Module, goal: Goal, x: Tensor, y: Tensor, progress: float) -> Callable[[], None]:
    """Return a training step up to the gradients."""

    def call() -> None:
        net.zero_grad()
        goal(net, x, y, progress=progress).backward()

    return call


def run(rounds: int = 9, device: str | None = None) -> list[dict[str, Any]]:
    """Return one row for each claim: times the cost of a natural step."""
    torch.set_num_threads(1)
    speed.keep_freed_memory()  # as every command does
    device = device or DEVICE
    count = 128  # the authors' batch
    x, y = torch.rand(count, 3, 32, 32, device=device), torch.randint(10, (count,), device=device)
    rows = []
    for name, build in (("cnn_small", cnn_small), ("cnn_large", cnn_large)):
        net = build(**CIFAR).to(device)
        plain = step(net, natural, x, y, 0.9)
        bound = partial(ibp_bound, threat=BALL)
        linear = partial(crown_ibp_bound, threat=BALL)
        for what, goal, progress, bar in (
            ("IBP step", partial(ibp, bound=bound), 0.9, "<= 2.5"),
            (
                "IBP step, half natural loss",
                partial(ibp, bound=bound, kappa_end=0.5),
                0.9,
                "none, 3 passes",
            ),
            ("CROWN-IBP step while eps grows", partial(crown_ibp, bound=linear), 0.25, "none"),
        ):
            measured = ratio((step(net, goal, x, y, progress), plain), rounds)
            rows.append(
                {
                    "what": f"{what}, {name}",
                    "against": "natural step",
                    "bar": bar,
                    "measured": measured,
                }
            )
        with torch.no_grad():
            calls = (partial(linear, net, x, y), partial(bound, net, x, y))
            measured = ratio(calls, rounds)
        bar = "<= 3" if name == "cnn_large" else "none"
        rows.append(
            {
                "what": f"CROWN-IBP bounds, {name}",
                "against": "IBP bounds",
                "bar": bar,
                "measured": measured,
            }
        )
    return [row | {"what": f"{row['what']}, {device}, {count} images"} for row in rows]


if __name__ == "__main__":
    for row in run(device=sys.argv[1] if len(sys.argv) > 1 else None):
        print(
            f"{row['what']:64} {row['measured']:8.2f}   bar {row['bar']:16} "
            f"against {row['against']}"
        )
