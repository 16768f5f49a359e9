"""The comparison of a project's runs as a W&B report: python -m advprune.report wandb --entity NAME --project NAME

It has the names that ``loggers/`` gives. Built by wandb-workspaces; without a login or a network it
is written to a file as it would be sent, and the same command sends it later. Given again, it
brings the same report up to date.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from advprune.errors import UserError
from advprune.report.wandb_report import panels
from advprune.runtime.atomic_write import write_atomically
from advprune.tracking import wandb_login

FILE = "wandb_report.json"
TITLE = "Adversarial pruning: what robustness costs"
PINNED = ("pruner", "ratio", "model", "objective", "attack", "norm", "eps", "seed")


def main(arguments: list[str] | None = None) -> int:
    """Build it; send it if W&B can be reached, else write it; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        for sentence in publish(given.entity, given.project, given.out, send=not given.offline):
            print(sentence)  # noqa: T201
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def publish(entity: str, project: str, folder: Path, *, send: bool) -> list[str]:
    """Send the report, or write what would be sent; returns what to say.

    Raises:
        UserError: if wandb-workspaces is not installed, or the folder cannot be written.
    """
    made, path = report(entity, project), folder / FILE
    kept = _kept(path, entity, project)
    made.id = kept.get("id", "")
    said = [f"{path}  (what is sent)"]
    if send:
        said += _send(made, kept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(kept | {"spec": specification(made)}, indent=1))
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror}); give another --out FOLDER"
        ) from None
    return said


def report(entity: str, project: str) -> Any:
    """The report, a ``wandb_workspaces.reports.v2.Report``; no network is needed.

    Raises:
        UserError: if wandb-workspaces is not installed.
    """
    wr = _library()
    runs = wr.Runset(
        name="jobs",
        filters="JobType in ['prune', 'train', 'attack']",
        pinned_columns=[
            "run:displayName",
            *(f"config:{name}.value" for name in PINNED),
            "summary:robust_acc",
            "summary:strength",
            "summary:doubts",
        ],
    )
    pooled = wr.Runset(name="seeds pooled", groupby=["config.pruner", "config.ratio"])
    words = (
        "Each run is a job: a network trained, pruned, fine-tuned and attacked. Accuracies are shares of the test "
        "images; sparsity is counted, ratio is what was asked. The table with intervals is in each run, as `table`."
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


def specification(made: Any) -> dict[str, Any]:
    """What ``Report.save`` sends, as plain values."""
    return json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def _send(made: Any, kept: dict[str, Any]) -> list[str]:
    """Save it; ``kept`` remembers the report's id, so that there is one."""
    import wandb

    mode, reason = wandb_login.mode("online", wandb.setup().settings.base_url)
    if mode != "online":
        return [f"{reason}: nothing was sent; the same command sends it later"]
    try:
        made.save()
    except Exception as error:  # noqa: BLE001 - wandb-workspaces raises bare exceptions of many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return [f"W&B refuses ({first}): nothing was sent; the same command tries again"]
    kept["id"] = made.id
    return [made.url]


def _kept(path: Path, entity: str, project: str) -> dict[str, Any]:
    """What is known of this project's report from the last time."""
    fresh = {"entity": entity, "project": project}
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return fresh
    return known if {name: known.get(name) for name in fresh} == fresh else fresh


def _library() -> Any:
    try:
        import wandb_workspaces.reports.v2 as wr
    except ModuleNotFoundError:
        raise UserError(
            'the W&B report needs a package that is not installed: pip install "advprune[wandb]"'
        ) from None
    return wr


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advprune.report wandb", description=(__doc__ or "").splitlines()[0]
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
