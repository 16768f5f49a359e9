"""Time the progress display against a training step of 30 ms: python -m benchmarks progress_cost

A step pays for two calls that keep numbers; the line is drawn from a thread, four times a second.
Both are counted as the processor's own seconds.
"""

import io
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from advprune.tracking.grid_place import GridPlace
from advprune.tracking.progress import JobTitle, PhaseProgress
from advprune.tracking.show_progress import ShowProgress
from advprune.tracking.terminal_line import DRAWN

STEP, CALLS, DRAWS = 0.03, 20_000, 400


def each(call: Callable[[], object], times: int) -> float:
    """Return the processor's seconds of one call."""
    begun = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begun) / times


def run() -> list[dict[str, Any]]:
    """Return the row of the share."""
    with TemporaryDirectory() as folder:
        title = JobTitle("hydra 0.9, seed 1", GridPlace(Path(folder), 12, 2))
        console = Console(file=io.StringIO(), force_terminal=True, width=140)
        shown = ShowProgress(PhaseProgress(title, "fine-tuning"), console)
        trainer: Any = SimpleNamespace(current_epoch=3, num_training_batches=CALLS, max_epochs=20)
        shown.phase.total = 20

        def step() -> None:
            shown.on_train_batch_start(trainer, trainer, None, 7)
            shown.on_train_batch_end(trainer, trainer, None, None, 7)

        a_step = each(step, CALLS)
        assert shown.foot is not None
        shown.foot.live.start()
        a_draw = each(shown.foot.live.refresh, DRAWS)
        shown.foot.live.stop()
    share = a_step / STEP + a_draw * DRAWN
    return [
        {
            "what": "progress on a terminal, share of a 30 ms step",
            "against": "no progress",
            "bar": "1 %",
            "measured": f"{100 * share:.2f} % ({1e6 * a_step:.1f} µs a step, {1e3 * a_draw:.2f} ms "
            f"a drawing, {DRAWN} a second)",
        }
    ]
