"""Make the stage ``examples``: attack a source network once, for any number of targets."""

from pathlib import Path
from typing import Any

from advprune.config.stage_options import Evaluated
from advprune.modules.examples import gather
from advprune.stages.evaluated import evaluate_network
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Stage


def make(
    stage: Stage[Evaluated], folder: Path, parent: Path | None, where: RunContext
) -> dict[str, Any]:
    """Attack the parent stage's network as if white-box; write ``examples.safetensors``."""
    assert parent is not None
    _, result = evaluate_network(stage, parent, folder, where, keep=True)
    gather(sorted((folder / "work").glob("batch_*.safetensors")), folder / "examples.safetensors")
    return result
