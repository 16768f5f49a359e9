"""Keep adversarial examples on disk with their source's answers, and find them by image."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advprune.errors import UserError
from advprune.modules.weights_io import load_weights, save_weights

#: One entry an image: the example, its place in the test set, the source's answers on the image and
#: on the example.
FIELDS = ("x_adv", "image", "clean_pred", "adv_pred")


def gather(parts: list[Path], path: Path) -> None:
    """Join the files of the batches into one."""
    batches = [load_weights(part) for part in parts]
    save_weights(path, {field: torch.cat([batch[field] for batch in batches]) for field in FIELDS})


class Examples:
    """Read the examples in a file that ``gather`` wrote.

    Args:
        path: of ``examples.safetensors``.
    """

    def __init__(self, path: Path) -> None:
        self.fields = load_weights(path)
        places = self.fields["image"]
        self.rows = torch.full((int(places.max()) + 1,), -1, dtype=torch.int64)
        self.rows[places] = torch.arange(len(places))

    def at(self, positions: Tensor) -> dict[str, Tensor]:
        """Return the entries of the images at these positions of the test set, on their device.

        Raises:
            UserError: if one of them was never attacked.
        """
        places = positions.cpu()
        rows = self.rows[places[places < len(self.rows)]]
        if len(rows) < len(places) or bool((rows < 0).any()):
            raise UserError(
                "the source's examples are of other images; delete their folder and give the "
                "command again"
            )
        return {name: field[rows].to(positions.device) for name, field in self.fields.items()}


def verdicts(entries: dict[str, Tensor], y: Tensor) -> dict[str, Tensor]:
    """Return whether the source was right on each image, and on its example."""
    return {
        "source_clean_ok": entries["clean_pred"] == y,
        "source_adv_ok": entries["adv_pred"] == y,
    }


def cells(columns: dict[str, list[Any]]) -> dict[str, tuple[int, int]]:
    """Return a transfer attack's three counts, paired by image: how many, and of how many.

    ``target_acc``: the target right on the source's examples. ``both_correct``: target and source.
    ``transfer_rate``: the target wrong, of the images that both have right and on which the source
    is fooled.
    """
    rows = list(
        zip(
            columns["label"],
            columns["adv_pred"],
            columns["clean_ok"],
            columns["source_clean_ok"],
            columns["source_adv_ok"],
            strict=True,
        )
    )
    fooled = [
        guess != label
        for label, guess, clean, source_clean, source_adv in rows
        if clean and source_clean and not source_adv
    ]
    return {
        "target_acc": (sum(guess == label for label, guess, *_ in rows), len(rows)),
        "both_correct": (
            sum(guess == label and adv for label, guess, _, _, adv in rows),
            len(rows),
        ),
        "transfer_rate": (sum(fooled), len(fooled)),
    }
