"""Log a job to Weights & Biases: one run a job, its id made from the job's key.

W&B gives a run that is begun again under its id the new history in place of the old (no
``resume``). So nothing splits: each attempt first logs what the store and the checkpoint know and
then goes on, and the last attempt's run is whole.
"""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from advprune.tracking.logger import Finished, Job, Logger, Row, numbers
from advprune.tracking.wandb_begin import begin_run
from advprune.tracking.wandb_folder import Folder
from advprune.tracking.wandb_parts import add, flat, lasting

log = logging.getLogger(__name__)


class WandbRun(Logger):
    """Log to one Weights & Biases run; it asks no question and awaits no network.

    Args:
        project: where the run is sent.
        entity: W&B's account or team; None is the user's default.
        mode: None is online if there is an API key and the host answers, else offline.
        group: None is the grid's own words.
        folder: where its files wait, in a folder ``wandb``; None is beside the store.
        checkpoints: send the final network as an artifact.
    """

    def __init__(
        self,
        *,
        project: str = "advprune",
        entity: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        group: str | None = None,
        folder: str | None = None,
        checkpoints: bool = False,
    ) -> None:
        self.takes_grids = (mode or os.environ.get("WANDB_MODE")) != "disabled"
        self.project, self.entity, self.mode, self.group = project, entity, mode, group
        self.place, self.checkpoints = folder, checkpoints
        self.run: Any = None
        self.folder: Folder | None = None
        self.logged: list[Any] | None = None

    def open(self, job: Job) -> None:
        """Become the only writer of the job's run; the run begins with the first thing to log."""
        self.job = job
        if not self.takes_grids:
            return
        folder = Folder(Path(self.place) if self.place else job.shared, job.id)
        if folder.claim():
            self.folder = folder
        else:
            log.info(
                "another process is writing the W&B run %s of this job; it is left to it", job.id
            )

    def begin(self) -> None:
        """Begin the run."""
        self._begun()

    def point(self, stage: str, row: Row) -> None:
        """Log a point over ``<stage>/epoch``."""
        if self._begun():
            self.run.log({f"{stage}/{name}": value for name, value in row.items()})

    def knows(self, row: Mapping[str, object]) -> bool:
        """Return whether a run that ended with this row is on disk, or another process's to log."""
        return self.folder is None or self.folder.has_logged(self._content(row))

    def finished(self, done: Finished) -> None:
        """Log per-layer sparsity, attacked images, and an evaluation's numbers."""
        if not self._begun():
            return
        import wandb

        shown: dict[str, Any] = {}
        if done.layers:
            for name, share in done.layers.items():
                self.run.summary[f"sparsity/{done.stage}/{name}"] = share
            table = wandb.Table(
                columns=["layer", "sparsity"], data=[list(item) for item in done.layers.items()]
            )
            title = f"share of zeros in each layer, {done.stage}"
            shown[f"layers/{done.stage}"] = wandb.plot.bar(table, "layer", "sparsity", title=title)
        if done.examples is not None:
            shown[f"examples/{done.stage}"] = wandb.Image(str(done.examples), caption=done.stage)
        if shown:
            self.run.log(shown)
        if "images" in done.result:
            self.run.summary.update(numbers(done.result, f"{done.stage}/"))

    def result(self, row: Mapping[str, object], stages: list[Finished]) -> None:
        """Log the row as summary, table and artifact with the records; the weights too if asked."""
        if not self._begun():
            return
        assert self.folder is not None
        import wandb

        cells = flat(row)
        self.run.summary.update(cells)
        self.run.config.update(
            {"made_by": stages[-1].result.get("provenance")}, allow_val_change=True
        )
        self.run.log({"table": wandb.Table(columns=list(cells), data=[list(cells.values())])})
        artifact = wandb.Artifact(f"result-{self.job.id}", "result", metadata=cells)
        with artifact.new_file("row.json", encoding="utf-8") as file:
            json.dump(row, file, indent=1)
        for stage in stages:
            add(artifact, stage, "result.json", "config.yaml")
        add(artifact, stages[-1], "records.parquet")
        self.run.log_artifact(artifact)
        if self.checkpoints:
            self._send_weights(stages)
        self.logged = self._content(row)

    def grid(self, rows: list[dict[str, Any]], files: list[Path]) -> None:
        """Log a grid's table as a run of type ``grid``, and its files as an artifact."""
        content = [self._content(row) for row in rows]
        if self.folder is None or self.folder.has_logged(content) or not self._begun():
            return
        import wandb

        cells = [flat(row) for row in rows]
        names: list[str | int] = list(dict.fromkeys(name for row in cells for name in row))
        data = [[row.get(str(name)) for name in names] for row in cells]
        self.run.log({"table": wandb.Table(columns=names, data=data)})
        artifact = wandb.Artifact(f"table-{self.job.id}", "table")
        for file in files:
            artifact.add_file(str(file), policy="immutable")
        self.run.log_artifact(artifact)
        self.logged = content

    def close(self, *, failed: bool) -> None:
        """End the run, waiting no longer than ``END`` seconds for the network."""
        if self.run is not None:
            self.run.finish(exit_code=int(failed))
        if self.folder is not None:
            if self.logged is not None:
                self.folder.remember(self.logged, Path(self.run.settings.sync_dir))
            self.folder.release()
            self.folder.set_empty_aside()

    @property
    def _group(self) -> str | None:
        return self.group or self.job.group

    def _content(self, row: Mapping[str, object]) -> list[Any]:
        return [lasting(row), self.project, self.entity, self.mode, self._group, self.checkpoints]

    def _send_weights(self, stages: list[Finished]) -> None:
        import wandb

        (final,) = [stage for stage in stages if stage.stage == self.job.config["final"]]
        artifact = wandb.Artifact(f"network-{self.job.id}", "model")
        add(artifact, final, "model.safetensors", "masks.safetensors", "int8.safetensors")
        add(artifact, final, "structure.json", "config.yaml", "result.json")
        self.run.log_artifact(artifact)

    def _begun(self) -> bool:
        """Begin the run if it has not begun; return False if it is another process's."""
        if self.folder is None:
            return False
        if self.run is None:
            self.run = begin_run(
                self.folder,
                self.job,
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                group=self._group,
            )
        return True
