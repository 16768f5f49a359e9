"""The report of a store, from the command line: python -m advprune.report [--store FOLDER] [--out FOLDER]"""

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from advprune.errors import UserError
from advprune.report.build import PAGE, Report, build, tables_of

#: Reports of their own: the word that asks for one, and the module whose ``main`` takes the words
#: after it.
MORE = {"curves": "curves", "radius": "radius", "wandb": "dashboard"}


def main(arguments: list[str] | None = None) -> int:
    """Build it, say where it lies and what it leaves out; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    begun = time.monotonic()
    try:
        if words and words[0] in MORE:
            return import_module(f"advprune.report.{MORE[words[0]]}").main(words[1:]) or 0
        given = _parser().parse_args(words)
        if not given.store.is_dir():
            raise UserError(
                f"there is no folder {given.store}; give --store FOLDER, the one that store= names"
            )
        report = build(
            given.store,
            given.out.resolve() if given.out else given.store.parent / "report",
            given.tables or tables_of(given.store),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except OSError as error:
        print(  # noqa: T201
            f"error: {error.filename} could not be written ({error.strerror}); give --out FOLDER",
            file=sys.stderr,
        )
        return 1
    for sentence in said(report):
        print(sentence)  # noqa: T201
    print(f"{report.folder / PAGE}  ({time.monotonic() - begun:.1f} s)")  # noqa: T201
    return 0


def said(report: Report) -> list[str]:
    """What a reader of a terminal must know, a sentence each."""
    return [
        *(f"problem: {problem}" for problem in report.problems),
        *(f"left out: {sentence}" for sentence in report.left_out),
        f"{report.runs} evaluations, {report.compared} comparisons",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m advprune.report", description=(__doc__ or "").partition(":")[0]
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
        help="of grids and jobs, for what their commands called things (all in grids/ and runs/ beside the store)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
