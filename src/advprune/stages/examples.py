"""The stage ``examples``: a source network attacked once; its examples are judged on any number of targets."""

from pathlib import Path
from typing import Any

from advprune.modules.examples import gather
from advprune.modules.files import load_weights
from advprune.stages import parts
from advprune.stages.evaluated import judged, model_options
from advprune.stages.fit import Where
from advprune.stages.plan import Stage


def make(stage: Stage, folder: Path, parent: Path | None, where: Where) -> dict[str, Any]:
    """Attack the parent stage's network as if white-box; write ``examples.safetensors``."""
    assert parent is not None
    net = parts.network(model_options(stage), seed=0)
    net.load_state_dict(load_weights(parent / "model.safetensors"))
    _, told = judged(stage, net.eval(), folder, where, keep=True)
    gather(sorted((folder / "work").glob("batch_*.safetensors")), folder / "examples.safetensors")
    return told
