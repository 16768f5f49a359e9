"""Count the files that a newcomer meets: those in which a function is entered by one command.

Run: python -m benchmarks.reading_walk. It runs ``python prune.py pruner=hydra ratio=0.99`` with
short phases and a store of its own, and prints how many files of the package have a function
entered in them, in all and before the first training step. It exits with 1 above its ceilings.
"""

import runpy
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(ROOT / "src" / "advprune")
BARS = {"in all": 60, "before the first training step": 35}
#: What CI fails above: how many there are, so that they do not grow while they are above the bars.
#: The dry run calls every object of a job before anything is trained. It enters 29 of them first:
#: two are its own, and the others would be entered later.
CEILINGS = {"in all": 77, "before the first training step": 63}
#: README's command with fewer epochs and weaker attacks; it passes through the same files. The
#: network learns to tell classes apart: of one that does not, the evaluation would ask why.
COMMAND = (
    "pruner=hydra", "ratio=0.99", "training.epochs=2", "search.epochs=1", "finetune.epochs=2",
    "select.images=32", "objective.attack.steps=1", "attack.steps=2", "attack.images=64",
    "trainer=cpu",
)  # fmt: skip
FIRST_STEP = "training_step"
#: CPython's flag of code that has fast locals: functions have it, bodies of classes do not.
CO_NEWLOCALS = 0x2


class Walk:
    """Record which files are entered, in the order of the first entry.

    Attributes:
        files: the function by which each file was entered first.
        before: how many files there were at the first training step; None before it.
    """

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.before: int | None = None

    def enter(self, frame: FrameType, event: str, _: object) -> None:
        """Record a call; the bodies of modules and classes, and comprehensions, do not count."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name[0] == "<":
            return
        if not code.co_flags & CO_NEWLOCALS:
            return
        if self.before is None and code.co_name == FIRST_STEP:
            self.before = len(self.files)
        self.files.setdefault(code.co_filename, code.co_name)


def walk_command() -> Walk:
    """Run the command in this process, and return what it enters."""
    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["prune.py", *COMMAND, f"store={folder}/stages", f"hydra.run.dir={folder}/run"]
        threading.setprofile(walk.enter)
        sys.setprofile(walk.enter)
        try:
            runpy.run_path(str(ROOT / "prune.py"), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    return walk


def counts_of(walk: Walk) -> dict[str, int]:
    """Return both counts, under the names of their bars."""
    assert walk.before is not None, "nothing was trained"
    return dict(zip(BARS, (len(walk.files), walk.before), strict=True))


def run() -> list[dict[str, Any]]:
    """Return a row for each count."""
    counts = counts_of(walk_command())
    return [
        {
            "what": f"files entered {what}",
            "against": "prune.py pruner=hydra ratio=0.99",
            "bar": f"{bar} files",
            "measured": f"{counts[what]} files",
        }
        for what, bar in BARS.items()
    ]


def main() -> int:
    """Print the files and both counts; return 1 if one is above its ceiling."""
    walk = walk_command()
    counts = counts_of(walk)
    for place, (name, function) in enumerate(walk.files.items()):
        if place == walk.before:
            print("-- first training step --")
        print(f"{Path(name).relative_to(PACKAGE)}: {function}")
    for what, bar in BARS.items():
        print(f"files entered {what}: {counts[what]} (bar {bar}, ceiling {CEILINGS[what]})")
    return int(any(counts[what] > ceiling for what, ceiling in CEILINGS.items()))


if __name__ == "__main__":
    sys.exit(main())
