"""Compare several ratios with one where images are scored: python -m benchmarks shared_scores

Each is a grid in a store of its own, of a ResNet-20 that is read from a file: the stages ``dense``,
``scores`` and ``pruned``, without recovery and evaluation. GAP and HRank look at all 1,437 digits.
The bar is on the seconds of scoring, by the stores' journals; the whole grids' are beside them.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors.torch import save_file

from advprune.config.options import Options
from advprune.distributed.environment import settle
from advprune.models.cifar_resnet import CifarResNet
from advprune.pipeline.executor import ensure_stages
from advprune.pipeline.steps import dense, pruned
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Plan
from advprune.store.store import Store
from advprune.tracking.logger import Logger
from benchmarks._digits import PIXELS
from benchmarks._turns import place, seconds

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, BAR = 2, 1.1
#: What is measured: its name, the words of its pruner, and the ratios of its grid.
GRIDS: Sequence[tuple[str, tuple[str, ...], tuple[float, ...]]] = (
    ("GAP at four compressions", ("pruner=gap",), (1 / 2, 3 / 4, 7 / 8, 15 / 16)),
    (
        "hrank at three ratios",
        ("pruner=filters", "pruner/criterion=hrank", "pruner.criterion.images=null"),
        (0.2, 0.4, 0.6),
    ),
)


def options(words: Sequence[str], weights: Path) -> Options:
    """Return the options of ``prune.py`` with these words, for a network in a file."""
    from hydra import compose, initialize_config_dir

    import prune  # noqa: F401 - registers the schemas
    from advprune.config.options import load

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = [*words, "model=resnet20", "trainer=cpu", f"dense={weights}"]
        return load(compose("prune", words))


def grid(chosen: Options, ratios: Sequence[float], folder: Path) -> None:
    """Prune at each ratio, in one store."""
    store = Store(folder)
    where = RunContext(chosen.trainer, Logger(), folder)
    settle(chosen.trainer, chosen.dataset.image_size)
    for ratio in ratios:
        job = replace(chosen, ratio=ratio)
        parent = dense.stage(job)
        last = pruned.stage(job, parent)
        ensure_stages(Plan(parent, last, parent, last), store, where)


def scoring(folder: Path) -> float:
    """Return the seconds that a store's journal has for scoring."""
    events = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
    return sum(event.get("seconds", 0) for event in events if event["stage"] == "scores")


def turn(chosen: Options, ratios: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the seconds of a grid and of its first job alone: in all, and of scoring."""
    with tempfile.TemporaryDirectory() as folder:
        one, all_ = Path(folder, "one"), Path(folder, "all")
        alone = seconds(partial(grid, chosen, ratios[:1], one))
        whole = seconds(partial(grid, chosen, ratios, all_))
        return whole, alone, scoring(all_), scoring(one)


def run() -> list[dict[str, object]]:
    """Return one row for each grid: the median ratio of turns."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "model.safetensors")
        save_file(CifarResNet(depth=20, **PIXELS).state_dict(), weights)
        for name, words, ratios in GRIDS:
            chosen = options(words, weights)
            turns = [turn(chosen, ratios) for _ in range(1 + ROUNDS)][1:]  # the first warms up
            rows.append(
                {
                    "what": f"{name}, 1,437 digits, ResNet-20, {place()}",
                    "against": "one of them: "
                    f"{statistics.median(alone for _, alone, _, _ in turns):.2f} s",
                    "bar": f"<= {BAR} x of the scoring",
                    "measured": f"{statistics.median(a / b for _, _, a, b in turns):.2f} x, "
                    f"the whole grid {statistics.median(a / b for a, b, _, _ in turns):.2f} x",
                }
            )
    return rows


if __name__ == "__main__":
    for row in run():
        print(*(f"{key}: {value}" for key, value in row.items()), sep="\n  ")
