"""Compare a project's runs in a W&B report: python -m advprune.report wandb --entity NAME.

It reads the names that ``tracking/`` logs, and is built by wandb-workspaces. Without a login or a
network it is written to a file as it would be sent, and the same command sends it later. A later
call updates the same report.
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from advprune.errors import UserError
from advprune.report.wandb_report import panels
from advprune.runtime.safe_files import write_atomically
from advprune.tracking import wandb_login

FILE = "wandb_report.json"
TITLE = "Adversarial pruning: what robustness costs"
OPTIONS = ("pruner", "ratio", "model", "objective", "attack", "norm", "eps", "seed")
RESULTS = ("robust_acc", "strength", "doubts")


class WandbReport(Protocol):
    """What is used of ``wandb_workspaces.reports.v2.Report``."""

    id: str
    url: str

    def save(self) -> None:
        """Create the report online, or update the one of this id."""

    def _to_model(self) -> Any: ...


def main(arguments: list[str] | None = None) -> int:
    """Send the report, or write it if W&B cannot be reached, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        lines = publish(options.entity, options.project, options.out, send=not options.offline)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("\n".join(lines))  # noqa: T201
    return 0


def publish(entity: str, project: str, folder: Path, *, send: bool) -> list[str]:
    """Send the report, or write what would be sent.

    Args:
        entity: user or team whose project it is.
        project: where the runs are.
        folder: where the file goes.
        send: whether to try to send it.

    Returns:
        Sentences for the user.

    Raises:
        UserError: if wandb-workspaces is not installed, or the folder cannot be written.
    """
    document, path = report(entity, project), folder / FILE
    state = _saved_state(path, entity, project)
    document.id = state.get("id", "")
    lines = [f"{path}  (what is sent)"]
    if send:
        lines += _send(document, state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(state | {"spec": specification(document)}, indent=1))
    except OSError as error:
        reason = f"{path} could not be written ({error.strerror}); give another --out FOLDER"
        raise UserError(reason) from None
    return lines


def report(entity: str, project: str) -> WandbReport:
    """Return the report as a ``wandb_workspaces.reports.v2.Report``; no network is needed.

    Raises:
        UserError: if wandb-workspaces is not installed.
    """
    wr = _library()
    runs = wr.Runset(
        name="jobs",
        filters="JobType in ['prune', 'train', 'attack']",
        pinned_columns=[
            "run:displayName",
            *(f"config:{name}.value" for name in OPTIONS),
            *(f"summary:{name}" for name in RESULTS),
        ],
    )
    pooled = wr.Runset(name="seeds pooled", groupby=["config.pruner", "config.ratio"])
    words = (
        "Each run is a job: a network trained, pruned, fine-tuned and attacked. "
        "Accuracies are shares of the test images; sparsity is counted, ratio is what was asked. "
        "The table with intervals is in each run, as `table`."
    )
    return wr.Report(
        entity=entity,
        project=project,
        title=TITLE,
        width="fluid",
        description="Made by python -m advprune.report wandb",
        blocks=[
            wr.TableOfContents(),
            wr.P(words),
            wr.H2("Accuracy against sparsity"),
            wr.PanelGrid(runsets=[runs], panels=panels.outcomes(wr)),
            wr.H2("Seeds pooled"),
            wr.PanelGrid(runsets=[pooled], panels=panels.bars(wr)),
            wr.H2("How they were trained"),
            wr.PanelGrid(runsets=[runs], panels=panels.curves(wr)),
            wr.H2("Layers and attacked images"),
            wr.PanelGrid(runsets=[runs], panels=panels.pictures(wr)),
            wr.H2("Differences between runs"),
            wr.PanelGrid(runsets=[runs], panels=panels.differences(wr)),
        ],
    )


def specification(document: WandbReport) -> dict[str, Any]:
    """Return what ``Report.save`` sends, as plain values."""
    return json.loads(document._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def _send(document: WandbReport, state: dict[str, str]) -> list[str]:
    """Save the report online; ``state`` remembers its id, so that there is only one."""
    import wandb

    mode, reason = wandb_login.mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        return [f"{reason}: nothing was sent; the same command sends it later"]
    try:
        document.save()
    except Exception as error:  # noqa: BLE001 - wandb-workspaces raises bare exceptions of many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [f"W&B refuses ({first}): nothing was sent; the same command tries again"]
    state["id"] = document.id
    return [document.url]


def _saved_state(path: Path, entity: str, project: str) -> dict[str, Any]:
    """Return what the last call for this project wrote; its names alone on the first."""
    fresh = {"entity": entity, "project": project}
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return fresh
    return known if {name: known.get(name) for name in fresh} == fresh else fresh


def _library() -> ModuleType:
    try:
        import wandb_workspaces.reports.v2 as wr
    except ModuleNotFoundError:
        raise UserError(
            'the W&B report needs a package that is not installed: pip install "advprune[wandb]"'
        ) from None
    return wr


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advprune.report wandb", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("--entity", required=True, help="user or team whose project it is")
    parser.add_argument("--project", default="advprune", help="where the runs are (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("multirun/report"), help=f"folder for {FILE} (%(default)s)"
    )
    parser.add_argument("--offline", action="store_true", help="write the file and send nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
