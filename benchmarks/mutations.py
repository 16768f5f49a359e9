"""Break the source on purpose, one place at a time, and see that the tests notice.

Run: python -m benchmarks.mutations [NAME ...]. Each fault of ``_mutants.MUTANTS`` is made in a copy
of the checkout, and the tests that know the right answer are run there; the copy is thrown away. A
fault that they let pass is printed as SURVIVED, and the exit code is 1.

Each fault has a process of its own. It is forked from one that has imported the libraries, which
takes longer than most of these tests, and nothing of advprune. Minutes, on one core.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks._mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
#: Seconds after which a fault's tests count as failed: without its lock, a test may wait forever.
LIMIT_S = 600.0
#: What takes long to import, and is the same for every fault.
LIBRARIES = ("torch", "torchvision", "pytorch_lightning", "hydra", "pandas", "hypothesis", "rich")
COPIED = (
    *("src", "conf", "tests", "benchmarks", "docs"),
    *("train.py", "prune.py", "attack.py", "pyproject.toml", "README.md", "CONTRIBUTING.md"),
)


def copy_checkout(place: Path) -> Path:
    """Copy what the tests need into ``place``, with the real data beside it where there is some."""
    checkout = place / "checkout"
    checkout.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, checkout / name)
    shared = Path(os.environ.get("ADVPRUNE_SHARED", ROOT.parent / "shared"))
    if shared.is_dir():
        (place / "shared").symlink_to(shared.resolve())
    return checkout


def run_tests(checkout: Path, tests: Iterable[str], limit_s: float | None = None) -> int:
    """Run tests of the copy; return pytest's exit code: 0 all passed, 1 some failed or had no end.

    Args:
        checkout: the copy.
        tests: paths in it, or single tests.
        limit_s: seconds after which they count as failed, with the processes that they started;
            None: they may take as long as they like.
    """
    output = checkout.with_name("output.txt")
    process = multiprocessing.get_context("fork").Process(
        target=_run_pytest, args=(checkout, list(tests), output)
    )
    process.start()
    process.join(limit_s)
    if process.exitcode is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return 1
    if process.exitcode != 0 and process.exitcode != 1:
        print(output.read_text()[-4000:])
    return process.exitcode


def _run_pytest(checkout: Path, tests: list[str], output: Path) -> None:
    """Run in a process of its own; what is imported from here on is the copy's."""
    os.setsid()
    os.chdir(checkout)
    sys.path[:0] = paths = [str(checkout / "src"), str(checkout)]
    sys.dont_write_bytecode = True  # a fault may be as long as what it replaces, in one second
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests])))


def try_mutant(checkout: Path, mutant: Mutant) -> str:
    """Make the fault, test it, unmake it; return ``killed``, ``SURVIVED``, or why not."""
    path = checkout / mutant.file
    text = path.read_text() if path.exists() else ""
    if text.count(mutant.old) != 1:
        return f"CANNOT BE MADE: its line is {text.count(mutant.old)} times in {mutant.file}"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        code = run_tests(checkout, mutant.tests, LIMIT_S)
    finally:
        path.write_text(text)
    return {0: "SURVIVED", 1: "killed"}.get(code, f"CANNOT BE TESTED: pytest ended with {code}")


def main(names: list[str]) -> int:
    """Try the named faults, or all; return 1 if one survived or nothing can be said."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    unknown = set(names) - {mutant.name for mutant in chosen}
    if unknown:
        print(f"no fault is called {', '.join(sorted(unknown))}; see benchmarks/_mutants.py")
        return 2
    os.environ["OMP_NUM_THREADS"] = "1"  # a process with other threads is not forked
    for library in LIBRARIES:
        import_module(library)
    with tempfile.TemporaryDirectory() as place:
        checkout = copy_checkout(Path(place))
        if code := run_tests(checkout, sorted({test for one in chosen for test in one.tests})):
            print(f"without any fault the tests end with {code}: nothing can be said")
            return 1
        alive = 0
        for mutant in chosen:
            begun = time.monotonic()
            outcome = try_mutant(checkout, mutant)
            alive += outcome != "killed"
            print(f"{mutant.name:50} {outcome} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} faults killed")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
