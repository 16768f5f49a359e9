"""docs/coming_from.md: a peer's word has an answer, and each command of ours runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from advprune.config.peer_sentences import sentence_on
from advprune.config.peers import PEERS

ROWS = [
    (there, here)
    for there, here in re.findall(
        r"^\| (.+?) \| (.+) \|$", (ROOT / "docs" / "coming_from.md").read_text(), re.MULTILINE
    )
    if there not in ("there", "---")
]
WORD = re.compile(r"\b([a-z_.]+)=")
COMMAND = re.compile(r"`python ((?:train|prune|attack)\.py [^`]+)`")
#: What cannot be run here: a file of the user's, CIFAR-10, half an hour of search.
LACKING = ("FILE", "cifar10", "hydra/sweeper")
COMMANDS = [
    command
    for _, here in ROWS
    for command in COMMAND.findall(here)
    if not any(word in command for word in LACKING)
]
#: What an extra of the package or another command takes: with a small store of its own.
STORE = ["debug=smoke", "trainer=cpu", "hydra.run.dir=run"]


def test_four_projects_have_five_habits_each() -> None:
    assert len(ROWS) == 4 * 5


@pytest.mark.parametrize(
    "word", sorted({word for there, _ in ROWS for word in WORD.findall(there)})
)
def test_a_peers_word_is_answered(word: str) -> None:
    """By its name here, by a sentence, or because it is the same here."""
    groups = {path.stem for path in (ROOT / "conf").iterdir()} | {"debug"}
    assert word in PEERS or sentence_on(word) or word in groups, word


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_our_command_runs(command: str, tmp_path: Path) -> None:
    script, *words = shlex.split(command)
    if "export=onnx" in words:
        pytest.importorskip("onnxscript", reason='pip install "advprune[onnx]"')
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words, *(w for w in STORE if w not in words)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "robust" in done.stdout or "clean" in done.stdout
