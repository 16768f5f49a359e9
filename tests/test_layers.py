"""Imports point down the layers of DESIGN §3, siblings do not import each other, and Hydra stops at the door."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "advprune"
PRIMITIVES = {
    *("atomic", "keys", "threat", "masks", "losses", "frozen", "errors", "units", "schedules", "sites", "seal"),
    *("preemption", "ranks", "rows", "allocator", "exact", "compiled", "prediction"),
    *("signatures", "plain_files", "processors", "ranges"),
}
MIDDLE = {"objectives", "attacks", "pruners", "surgery", "quantizers", "datasets", "models", "bounds"}
LEVEL = dict.fromkeys(PRIMITIVES, 0) | dict.fromkeys(MIDDLE, 1) | {"modules": 2, "loggers": 2, "stages": 3, "report": 3}
ONLY = {"hydra": {"stages"}, "omegaconf": {"stages"}, "pytorch_lightning": {"stages", "modules", "datasets"}}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno


def layer_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return
    for module, line in imports(path):
        parts = module.split(".")
        for library, allowed in ONLY.items():
            assert parts[0] != library or layer in allowed, f"{path.name}:{line}: {layer} imports {library}"
        if parts[0] != "advprune" or len(parts) == 1:
            continue
        target = parts[1]
        assert target in LEVEL, f"{path.name}:{line}: {target} has no level; give it one in this test"
        same = target == layer
        # pruners and surgery may not see each other, nor any other two of the middle; stages may use the report.
        down = (
            LEVEL[target] < LEVEL[layer]
            or (LEVEL[layer] == 0 and LEVEL[target] == 0)
            or (layer, target) == ("stages", "report")
        )
        assert same or down, f"{path.name}:{line}: {layer} imports {target}, which is not below it"


def test_contributing_names_every_package() -> None:
    layers = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layers")[2].partition("\n## ")[0]
    assert [name for name in sorted(LEVEL.keys() - PRIMITIVES) if f"{name}/" not in layers] == []


@pytest.mark.parametrize("path", sorted(SRC.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_packages_are_empty(path: Path) -> None:
    assert path.read_text() == "", f"{path} would shadow a module with what it imports"
