"""Measure the house: sizes of files and functions, and how many arguments have no type.

Run: python -m benchmarks.house. It reads ``src/advprune`` and imports nothing of it; it prints each
number with its bar, then the worst offenders, and exits with 1 above a bar.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "advprune"
BARS = {
    "lines of a file, median": 90,
    "lines of a file, 90 % have at most": 180,
    "lines of a function, median": 7,
    "lines of a function, 90 % have at most": 22,
    "arguments typed Any or dict[str, Any], in %": 2,
}
UNTYPED = frozenset({"Any", "dict[str, Any]"})
WORST = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> dict[str, ast.Module]:
    """Return the modules that hold code, parsed, by their path: no empty ``__init__.py``."""
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    return {name: ast.parse(text) for name, text in sorted(texts.items()) if text.strip()}


def functions(tree: ast.Module) -> Iterator[Function]:
    """Yield every function of a module, methods and inner ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def lines_of(function: Function) -> int:
    """Return how many lines a function has, without decorators and its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if documented else 0)


def types_of(function: Function) -> Iterator[str]:
    """Yield the annotation of each argument, ``self`` and ``cls`` left out."""
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    for argument in every:
        if argument is not None and argument.arg not in ("self", "cls"):
            yield ast.unparse(argument.annotation) if argument.annotation else "Any"


def tenth_largest(numbers: list[int]) -> int:
    """Return the number that 90 % of them do not exceed."""
    return sorted(numbers)[-(-9 * len(numbers) // 10) - 1]


def measured(trees: dict[str, ast.Module]) -> dict[str, float]:
    """Return the numbers, under the names of their bars."""
    of_files = [len((PACKAGE / name).read_text().splitlines()) for name in trees]
    every = [function for tree in trees.values() for function in functions(tree)]
    of_functions = [lines_of(function) for function in every]
    types = [annotation for function in every for annotation in types_of(function)]
    untyped = sum(annotation in UNTYPED for annotation in types)
    numbers = (
        median(of_files),
        tenth_largest(of_files),
        median(of_functions),
        tenth_largest(of_functions),
        round(100 * untyped / len(types), 1),
    )
    return dict(zip(BARS, numbers, strict=True))


def run() -> list[dict[str, Any]]:
    """Return a row for each number."""
    return [
        {"what": what, "against": "src/advprune", "bar": f"{BARS[what]}", "measured": f"{number:g}"}
        for what, number in measured(files()).items()
    ]


def worst(trees: dict[str, ast.Module]) -> Iterator[str]:
    """Yield the largest files and functions, and the files with most arguments without a type."""
    sizes = {name: len((PACKAGE / name).read_text().splitlines()) for name in trees}
    of_functions = {
        f"{name}:{function.name}": lines_of(function)
        for name, tree in trees.items()
        for function in functions(tree)
    }
    untyped = {
        name: sum(kind in UNTYPED for function in functions(tree) for kind in types_of(function))
        for name, tree in trees.items()
    }
    for what, numbers in (("lines", sizes), ("lines", of_functions), ("untyped", untyped)):
        for name in sorted(numbers, key=lambda name: -numbers[name])[:WORST]:
            yield f"  {numbers[name]} {what}: {name}"


def main() -> int:
    """Print the numbers and the worst of them; return 1 if one is above its bar."""
    trees = files()
    numbers = measured(trees)
    print(f"{len(trees)} files")
    for what, number in numbers.items():
        print(f"{what}: {number:g} (bar {BARS[what]})")
    print("\n".join(worst(trees)))
    return int(any(numbers[what] > bar for what, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
