"""Words of other projects get a sentence with ours; several loggers at once, and none twice."""

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from advprune.config import command_line, unknown_options
from advprune.config.peer_sentences import SENTENCES, sentence_on
from advprune.config.peers import PEERS
from advprune.config.schema import Vocabulary
from advprune.errors import UserError
from advprune.tracking.logger import Job, Logger, Loggers

PRUNE = Vocabulary((ROOT / "conf",), "prune")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("ckpt_path", "dense=FILE"),
        ("trainer.max_epochs", "training.epochs=…"),
        ("callbacks", "select.keep=best"),
        ("callbacks.early_stopping.patience", "nothing stops early"),
        ("trainer.fast_dev_run", "debug=smoke"),
        ("trainer.limit_train_batches", "debug=smoke"),
        ("trainer.strategy", "trainer=ddp trainer.devices=N"),
        ("model.optimizer.lr", "training.learning_rate=…"),
        ("data.batch_size", "training.batch_size=…"),
        ("paths.output_dir", "store=FOLDER"),
        ("hparams_search", "hydra/sweeper=optuna"),
        ("n_examples", "attack.images=…"),
        ("k", "k=0.01 is ratio=0.99"),
        ("iterative_steps", "pruner.rounds=…"),
    ],
)
def test_a_peers_word_gets_a_sentence_with_ours(name: str, ours: str) -> None:
    known: Any = dict.fromkeys([*PEERS.values(), "trainer.accelerator", "model.widths"])
    message = unknown_options.unknown_option(name, known, PRUNE)
    assert message.startswith(f"prune.py has no option {name}: ")
    assert ours in message


def test_a_word_of_nobody_has_no_sentence_and_no_word_has_two_answers() -> None:
    assert sentence_on("training.epochs") is None
    assert not SENTENCES.keys() & PEERS.keys()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("logger=[csv,csv]", r"logger=\[csv,csv\] names csv twice: give each logger once"),
        ("logger=[csv,mlflow]", "logger=mlflow is not known: did you mean logger=wandb?"),
        ("logger=many_loggers", r"did you mean logger=\[csv,wandb\]"),
    ],
)
def test_loggers_that_cannot_be(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        command_line.read([word], PRUNE, multirun=False)


class Kept(Logger):
    """Keeps the names of what it was told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def point(self, stage: str, row: dict[str, float]) -> None:
        self.heard.append(stage)


class Broken(Logger):
    """Fails at the first point."""

    def point(self, stage: str, row: dict[str, float]) -> None:
        raise OSError("the disk is full")


def test_of_several_loggers_one_that_fails_leaves_the_others(tmp_path: Path) -> None:
    first, last = Kept(), Kept()
    loggers = Loggers([first, Broken(), last])
    loggers.open(Job("id", "a", None, "prune", {}, ["paper"], tmp_path, tmp_path, []))
    for epoch in range(3):
        loggers.point("dense", {"epoch": float(epoch), "step": 1.0})
    loggers.close(failed=False)
    assert first.heard == last.heard == ["dense"] * 3
    assert not loggers.knows({})
