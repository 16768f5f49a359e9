"""Say under the job table what a network that was read from a file consists of."""

from collections.abc import Mapping
from typing import Any

from advprune.report.data.row import Row

#: Layers that are listed one by one; of more, this many of either end.
LISTED = 60


def file_notes(row: Row) -> list[str]:
    """Return sentences on the file that a row's network was read from: its size and its zeros.

    Args:
        row: with ``file``, the counts of ``report/data/file_audit.py``; a network that was trained,
            pruned or quantized after it was read has none.
    """
    file = row["file"]
    owner = f" ({file['owner']})" if file["owner"] else ""
    sentence = (
        f"{row['foreign']}{owner}: {file['parameters']:,} parameters, {file['macs']:,} MACs "
        f"({file['nonzero_macs']:,} by non-zero weights); {row['zeros']:.4f} of its "
        f"{file['weights']:,} prunable weights are zero{_filters(file)}"
    )
    return [sentence, *_layers(row["foreign"], file["layers"])]


def _filters(file: Mapping[str, Any]) -> str:
    """Return how many filters hold zeros alone."""
    if not file["zero_filters"]:
        return ""
    return f", {file['zero_filters']:,} of its {file['filters']:,} filters and neurons throughout"


def _layers(name: str, layers: Mapping[str, float]) -> list[str]:
    """Return the share of zeros in each layer, in the network's order; nothing without zeros."""
    if not any(layers.values()):
        return []
    shown = [f"{layer} {100 * share:.1f}" for layer, share in layers.items()]
    half = LISTED // 2
    cut = [*shown[:half], "…", *shown[-half:]] if len(shown) > LISTED else shown
    return [f"{name}, % zeros a layer: {', '.join(cut)}"]
