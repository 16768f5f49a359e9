"""Imports point down DESIGN's list of folders, none goes round, and Hydra stays where options are composed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "advprune"
METHODS = (
    "objectives",
    "attacks",
    "pruners",
    "surgery",
    "quantizers",
    "datasets",
    "models",
    "bounds",
)
PRIMITIVES = (
    "threat",
    "masks",
    "frozen",
    "schedules",
    "range_errors",
    "errors",
    "sites",
    "logits",
    "ranges",
)
#: From the top down; the folders of one line do not import each other, primitives may.
LAYERS = (
    ("__main__",),
    ("cli",),
    ("launch",),
    ("api",),
    ("pipeline",),
    ("stages",),
    ("report",),
    ("config",),
    ("store",),
    ("tracking",),
    ("modules",),
    METHODS,
    ("distributed",),
    ("runtime",),
    PRIMITIVES,
)
LEVEL = {name: -depth for depth, names in enumerate(LAYERS) for name in names}
#: Who may import a library; "pipeline/job" is one module.
ONLY = {
    "hydra": {"config", "launch", "pipeline/job"},
    "omegaconf": {"config", "launch", "pipeline"},
    "pytorch_lightning": {"stages", "tracking", "modules", "datasets", "distributed"},
}
FILES = sorted(path for path in SRC.rglob("*.py") if path.name != "__init__.py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every module that a file imports, anywhere in it, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / "src" / inner.replace(".", "/")).with_suffix(".py").exists()
                yield (inner if is_module else node.module), node.lineno


def layer_of(path: Path) -> str:
    """Name the folder or the primitive that a file belongs to."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    layer = layer_of(path)
    inside = str(path.relative_to(SRC).with_suffix(""))
    for module, line in imports(path):
        parts = module.split(".")
        for library, allowed in ONLY.items():
            assert parts[0] != library or {layer, inside} & allowed, (
                f"{inside}:{line} imports {library}"
            )
        if parts[0] != "advprune" or len(parts) == 1:
            continue
        target = parts[1]
        assert target in LEVEL, f"{inside}:{line}: {target} has no layer; give it one in this test"
        both_primitive = layer in PRIMITIVES and target in PRIMITIVES
        assert target == layer or both_primitive or LEVEL[target] < LEVEL[layer], (
            f"{inside}:{line}: {layer} imports {target}, which is not below it"
        )


def test_no_import_goes_round() -> None:
    graph = {
        str(path.relative_to(SRC.parent).with_suffix("")).replace("/", "."): {
            module for module, _ in imports(path) if module.startswith("advprune.")
        }
        for path in FILES
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, "a circle: " + " -> ".join([*above, module])
        if module in done or module not in graph:
            return
        for inner in sorted(graph[module]):
            visit(inner, (*above, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize(
    "path", sorted({*SRC.rglob("__init__.py")} - {SRC / "__init__.py"}), ids=lambda p: p.parent.name
)
def test_packages_hold_no_code(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert all(isinstance(node, ast.Expr) for node in body), f"{path} would shadow a module"
