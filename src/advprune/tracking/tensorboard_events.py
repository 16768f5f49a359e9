"""Write TensorBoard's event files in the job's folder, under the names that W&B gets."""

import json
from collections.abc import Mapping
from typing import Any

from advprune.errors import UserError
from advprune.tracking.logger import Finished, Job, Logger, Row, numbers

#: Facts of a job that are no choice of the user's.
NO_HPARAMS = frozenset({"code", "command", "host", "python", "output", "final"})


class TensorBoardEvents(Logger):
    """Write events that ``tensorboard --logdir multirun`` shows; a curve's axis is its step."""

    def open(self, job: Job) -> None:
        """Begin the events; points of an earlier attempt in the same folder are superseded.

        Raises:
            UserError: if tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError:
            raise UserError(
                "logger=tensorboard needs a package that is not installed: "
                'pip install "advprune[tensorboard]"'
            ) from None
        self.writer: Any = SummaryWriter(
            str(job.output / "tensorboard"), purge_step=0, flush_secs=10
        )
        self.job = job
        self.writer.add_text("config", _block(job.config | {"tags": job.tags}))

    def point(self, stage: str, row: Row) -> None:
        """Write a scalar for each number."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(f"{stage}/{name}", value, int(row["step"]))

    def finished(self, done: Finished) -> None:
        """Write per-layer sparsity and attacked images."""
        for name, share in done.layers.items():
            self.writer.add_scalar(f"sparsity/{done.stage}/{name}", share, 0)
        if done.examples is not None:
            import numpy as np
            from PIL import Image

            pixels = np.asarray(Image.open(done.examples).convert("RGB"))
            self.writer.add_image(f"examples/{done.stage}", pixels, dataformats="HWC")

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Write the table's numbers, and the whole row as text."""
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, 0)
        self.writer.add_text("table", _block(row))
        self._write_hparams(row)

    def _write_hparams(self, row: Mapping[str, object]) -> None:
        """Write what HPARAMS compares jobs by; its metrics are the row's scalars above."""
        from torch.utils.tensorboard.summary import hparams

        varied = {
            name: value
            for name, value in self.job.config.items()
            if isinstance(value, str | int | float) and name not in NO_HPARAMS
        }
        metrics = {name: value for name, value in numbers(row).items() if name.endswith("_acc")}
        for summary in hparams(varied, metrics):
            self.writer.file_writer.add_summary(summary)

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        if hasattr(self, "writer"):
            self.writer.close()


def _block(values: object) -> str:
    """Indent JSON so that TensorBoard's Markdown shows it unchanged."""
    return "\n".join(
        "    " + line for line in json.dumps(values, indent=1, default=str).splitlines()
    )
