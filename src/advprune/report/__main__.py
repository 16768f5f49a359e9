"""Write the report of a store: python -m advprune.report [--store FOLDER] [--out FOLDER].

``python -m advprune.report wandb`` makes a W&B report instead.
"""

import argparse
import gc
import sys
import time
from pathlib import Path

from advprune.errors import UserError
from advprune.report.build import build, tables_of
from advprune.report.summary import ReportSummary
from advprune.report.wandb_report.build import main as wandb_main
from advprune.report.write import PAGE


def main(arguments: list[str] | None = None) -> int:
    """Write the report, print where it lies and what it leaves out, and return the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["wandb"]:
        return wandb_main(words[1:])
    start = time.monotonic()
    options = _parser().parse_args(words)
    try:
        summary = _build(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(  # noqa: T201
            f"error: {error.filename} could not be written ({error.strerror}); give --out FOLDER",
            file=sys.stderr,
        )
        return 1
    for line in summary_lines(summary):
        print(line)  # noqa: T201
    print(f"{summary.folder / PAGE}  ({time.monotonic() - start:.1f} s)")  # noqa: T201
    return 0


def _build(options: argparse.Namespace) -> ReportSummary:
    if not options.store.is_dir():
        raise UserError(
            f"there is no folder {options.store}; give --store FOLDER, the one that store= names"
        )
    out = options.out.resolve() if options.out else options.store.parent / "report"
    return build(options.store, out, options.tables or tables_of(options.store))


def summary_lines(summary: ReportSummary) -> list[str]:
    """Return what a reader of a terminal must know, a sentence each."""
    return [
        *(f"problem: {problem}" for problem in summary.problems),
        *(f"left out: {sentence}" for sentence in summary.left_out),
        f"{summary.runs} evaluations, {summary.compared} comparisons",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advprune.report", description="Write the report of a store."
    )
    parser.add_argument(
        "--store", type=Path, default=Path("multirun/stages"), help="of stages (%(default)s)"
    )
    parser.add_argument("--out", type=Path, help="folder to write into (report/, beside the store)")
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        metavar="TABLE.JSON",
        help="of grids and jobs: what their commands called options, and measured sizes "
        "(default: all in grids/ and runs/ beside the store)",
    )
    return parser


if __name__ == "__main__":
    gc.disable()  # a tenth of the time is spent on looking for circles, and the process ends soon
    sys.exit(main())
