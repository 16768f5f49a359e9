"""Keep what a criterion's pass over the images gave, so that others go on from there."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from advprune.masks import Scores
from advprune.modules.weights_io import load_weights, save_weights
from advprune.sites import BlockSite, FilterSite

#: Names in the file of what is kept: ``score.NAME``, ``statistics.NAME``, and one random state.
SCORE, STATISTICS, RANDOM = "score.", "statistics.", "random_state"


class KeptScores:
    """Give the scores that a criterion gave before, and leave all else as it left it.

    That is BatchNorm's statistics, where it moves them, and the state of torch's generator on the
    processor, from which thresholds draw next: so masks are, bit for bit, those of a new pass.

    Args:
        path: of the file, written by ``kept``.
    """

    moves_statistics = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        *,
        sites: list[FilterSite] | list[BlockSite] | None = None,
    ) -> Scores:
        """Return the scores, on the model's device; no batch is loaded."""
        tensors, device = load_weights(self.path), next(model.parameters()).device
        torch.set_rng_state(tensors[RANDOM])
        for name, value in _named(tensors, STATISTICS).items():
            model.get_buffer(name).copy_(value)
        return {name: score.to(device) for name, score in _named(tensors, SCORE).items()}


@contextmanager
def kept(net: nn.Module, path: Path) -> Iterator[Scores]:
    """Write what a pass gives and moves, for ``KeptScores``.

    Args:
        net: the network that is scored.
        path: of the file.

    Yields:
        A dictionary, to be filled with the scores.
    """
    before = {name: buffer.cpu().clone() for name, buffer in net.named_buffers()}
    scores: Scores = {}
    yield scores
    after = {name: buffer.cpu() for name, buffer in net.named_buffers()}
    tensors = {f"{SCORE}{name}": score.cpu().contiguous() for name, score in scores.items()}
    tensors |= {
        f"{STATISTICS}{n}": b.contiguous() for n, b in after.items() if not b.equal(before[n])
    }
    save_weights(path, tensors | {RANDOM: torch.get_rng_state()})


def _named(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}
