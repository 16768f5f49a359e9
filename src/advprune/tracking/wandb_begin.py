"""Begin a run of Weights & Biases, online or offline, without a question or a wait."""

import logging
import os
from typing import Any, Literal

from advprune.tracking import wandb_login
from advprune.tracking.logger import Job
from advprune.tracking.wandb_folder import Folder

Mode = Literal["online", "offline", "disabled"]
#: Seconds to wait for W&B: to begin a run, and at its end for what is not sent yet (it stays on
#: disk).
BEGIN, END = 20.0, 30.0
#: Seconds between writes to disk: what a kill can cost.
FLUSH = 2.0
log = logging.getLogger(__name__)


def begin_run(
    folder: Folder,
    job: Job,
    *,
    project: str,
    entity: str | None,
    mode: Mode | None,
    group: str | None,
) -> Any:
    """Begin the W&B run of a job; it is logged offline where W&B cannot be reached or refuses.

    Args:
        folder: where its files wait.
        job: whose run it is.
        project: where the run is sent.
        entity: W&B's account or team; None is the user's default.
        mode: None is online if there is an API key and the host answers, else offline.
        group: the grid that the job belongs to.
    """
    os.environ.setdefault("WANDB_SILENT", "true")  # before the import, which reads it
    # what artifacts wait in
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.root.absolute() / "data"))
    folder.set_aside()
    import wandb

    chosen, reason = wandb_login.mode(mode, wandb.setup().settings.base_url)
    try:
        run = _init(folder, job, project, entity, chosen, group)
    except wandb.Error as error:
        if chosen == "offline":
            raise
        wandb.teardown()  # what is left of the failed run would hold its id
        chosen, reason = "offline", f"W&B refuses: {str(error).splitlines()[0].rstrip('.')}"
        run = _init(folder, job, project, entity, chosen, group)
    if reason is not None:
        log.warning("%s: logging offline; `wandb sync %s` sends it later", reason, folder.root)
    for stage in job.stages:
        run.define_metric(f"{stage}/epoch", hidden=True)
        run.define_metric(f"{stage}/step", hidden=True)
        run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
    return run


def _init(
    folder: Folder, job: Job, project: str, entity: str | None, mode: Any, group: str | None
) -> Any:
    import wandb

    settings = wandb.Settings(
        init_timeout=BEGIN,
        login_timeout=BEGIN,
        finish_timeout=END,
        x_transaction_log_flush_interval=FLUSH,
        mode=mode,
        console="off",
        silent=True,
        save_code=False,
    )
    return wandb.init(
        project=project,
        entity=entity,
        dir=str(folder.parent),
        id=job.id,
        name=job.name,
        group=group,
        job_type=job.kind,
        tags=job.tags,
        config=job.config,
        settings=settings,
        reinit="create_new",
    )
