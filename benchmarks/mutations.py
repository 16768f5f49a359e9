"""Break the source on purpose, one place at a time, and see that the tests notice.

Run: python -m benchmarks.mutations [NAME ...]. Each fault of ``_mutants.MUTANTS`` is made in a copy
of the checkout, and the tests that know the right answer are run there; the copy is thrown away. A
fault that they let pass is printed as SURVIVED, and the exit code is 1. Minutes, on one core.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks._mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
#: Seconds after which a fault's tests count as failed: without its lock, a test may wait forever.
LIMIT_S = 1200.0
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
        tests: paths in it.
        limit_s: seconds after which they count as failed, with the processes that they started;
            None: they may take as long as they like.
    """
    paths = f"{checkout / 'src'}{os.pathsep}{checkout}"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-n", "0", *tests]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 1
        said.seek(0)
        if code > 1:
            print(said.read()[-4000:])
    return code


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
