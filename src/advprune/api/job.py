"""Run the stages of a plan in a store of its own, which leaves nothing behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from advprune.api.network import device_of
from advprune.config.options import Options
from advprune.distributed.environment import settle
from advprune.frozen import preserve_rng
from advprune.modules.weights_io import plain_weights, save_weights
from advprune.pipeline.dry_run import dry_run
from advprune.pipeline.executor import ensure_stages
from advprune.stages.training_phase import RunContext
from advprune.store.stage import Plan
from advprune.store.store import Store
from advprune.threat import Threat
from advprune.tracking.logger import Logger


@contextmanager
def scratch() -> Iterator[Path]:
    """Inside, have an empty folder; the program's random state and threads are kept."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="advprune_") as folder, preserve_rng():
        try:
            yield Path(folder)
        finally:
            torch.set_num_threads(threads)


def saved(net: nn.Module, folder: Path) -> str:
    """Write the network's weights, for a stage to read; return the path."""
    path = folder / "given.safetensors"
    save_weights(path, plain_weights(net))
    return str(path)


def words_of(threat: Threat, net: nn.Module, seed: int, folder: Path) -> list[str]:
    """Return the command's words for the threat, the device, the seed and the store."""
    return [
        f"threat={threat.norm}",
        f"threat.eps={threat.eps!r}",
        f"trainer={'gpu' if device_of(net).type == 'cuda' else 'cpu'}",
        "trainer.allocator=system",
        f"seed={seed}",
        f"store={folder / 'stages'}",
    ]


def make(options: Options, plan: Plan) -> Store:
    """Try all objects of the options once, make every stage of the plan, and return the store.

    Raises:
        UserError: as the command would print it.
    """
    dry_run(options)
    store = Store(options.store)
    where = RunContext(options.trainer, Logger(), options.store.parent)
    settle(options.trainer, options.dataset.image_size)
    ensure_stages(plan, store, where)
    return store
