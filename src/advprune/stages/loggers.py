"""Lightning's loggers, bound so that they never ask a question and never wait for a network."""

import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

from advprune.errors import UserError


def csv(*, save_dir: str, name: str, facts: dict[str, Any]) -> "Logger":
    """``metrics.csv`` under the job's folder."""
    from pytorch_lightning.loggers import CSVLogger

    return CSVLogger(save_dir, name=name, version="")


def tensorboard(*, save_dir: str, name: str, facts: dict[str, Any]) -> "Logger":
    """TensorBoard's event files under the job's folder.

    Raises:
        UserError: if tensorboard is not installed.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir, name=name, version="")
    except ModuleNotFoundError:
        raise UserError(
            'logger=tensorboard needs a package that is not installed: pip install "advprune[tensorboard]"'
        ) from None


def wandb(
    *,
    save_dir: str,
    name: str,
    facts: dict[str, Any],
    project: str = "advprune",
    entity: str | None = None,
    mode: Literal["online", "offline", "disabled"] | None = None,
) -> "Logger":
    """A W&B run; offline unless an API key is set up, so that a terminal is never asked for one."""
    os.environ["WANDB_MODE"] = mode or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    from pytorch_lightning.loggers import WandbLogger

    plain = {str(key): value for key, value in facts.items()}  # Hydra makes a DictConfig of it, which W&B cannot read
    return WandbLogger(name=name, save_dir=save_dir, project=project, entity=entity, config=plain, job_type=name)


def close_wandb() -> None:
    """End the W&B run of a finished stage, so that the next one gets a run of its own."""
    import sys

    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()


def logged_in() -> bool:
    """Whether W&B would find an API key: in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].rstrip("/")
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
