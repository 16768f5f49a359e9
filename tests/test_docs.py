"""The pages docs/add_a*.md are true: their files, put into a copy, pass the tests they name, and their command runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY

pytestmark = pytest.mark.slow

BLOCK = re.compile(r"^`([\w/.]+\.(?:py|yaml))`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^```sh\npython (.+)$", re.MULTILINE)
PAGES = {
    "add_a_pruner": "pruners",
    "add_a_process": "process_conformance",
    "add_a_filter_criterion": "criteria_contract",
    "add_an_attack": "attacks",
    "add_a_model": "models",
    "add_a_dataset": "datasets",
}


def medmnist(path: Path) -> None:
    """A file in MedMNIST's layout, with noise for images."""
    random = np.random.RandomState(0)
    parts = {}
    for part, count in (("train", 240), ("val", 40), ("test", 100)):
        parts[f"{part}_images"] = random.randint(0, 256, (count, 28, 28, 3), dtype=np.uint8)
        parts[f"{part}_labels"] = (np.arange(count) % 8)[:, None].astype(np.uint8)
    np.savez(path, **parts)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_works(page: str, tmp_path: Path) -> None:
    for name in ("src", "conf", "tests", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "prune.py", "attack.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    medmnist(tmp_path / "bloodmnist.npz")
    text = (ROOT / "docs" / f"{page}.md").read_text()
    files = BLOCK.findall(text)
    assert len(files) == 2, "a method is one Python file and one YAML"
    for name, content in files:
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(content)
    member = Path(files[1][0]).stem
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    tests = [f"tests/test_{PAGES[page]}.py", "tests/test_configs.py", "tests/test_layers.py"]
    picked_up = run("-m", "pytest", "-vv", "-k", f"{member} or {Path(files[0][0]).stem}", *tests)
    assert len(re.findall(rf"{member}.* PASSED", picked_up)) >= 2
    words = shlex.split(COMMAND.findall(text)[0])
    tiny = [o for o in TINY if not (o.startswith("model.widths") and page == "add_a_model")]
    tiny = [
        o for o in tiny if not (o.startswith("attack.steps") and "autoattack" in " ".join(words))
    ]
    printed = run(*words, *tiny, "store=stages", "training.batch_size=64")
    assert "robust" in printed
    assert "made 5 stages" in printed
    run("-m", "ruff", "check", *(name for name, _ in files if name.endswith(".py")))
    run("-m", "ruff", "format", "--check", *(name for name, _ in files if name.endswith(".py")))
