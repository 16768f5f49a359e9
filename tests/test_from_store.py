"""``attack.py from=``: what was made is attacked again, without its words, and never anything else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY

from advprune.config import from_store
from advprune.errors import UserError


def network(store: Path, kind: str, key: str, command: str, **result: Any) -> Path:
    """A finished stage, as far as its own files tell who made it."""
    folder = store / kind / key
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"provenance": {"command": command}} | result))
    (folder / "complete").touch()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "stages"
    made = "python prune.py pruner=magnitude ratio=0.5 attack=pgd attack.steps=3 trainer=cpu logger=wandb seed=1"
    network(root, "dense", "aa00000000000001", "python train.py model=resnet18 'store=/else where'")
    network(root, "finetuned", "aa00000000000002", made + " trainer.precision=bf16 hydra.run.dir=x")
    network(root, "evaluated", "bb00000000000003", made, parent="aa00000000000002")
    return root


def test_the_words_of_the_network_come_back_and_not_those_of_its_attack(store: Path) -> None:
    words = ["from=aa00000000000002", f"store={store}", "attack=autoattack", "seed=1"]
    assert from_store.expand(words, multirun=False) == [
        "pruner=magnitude",
        "ratio=0.5",
        "trainer.precision=bf16",
        f"store={store}",
        "attack=autoattack",
        "seed=1",
        "stage='aa00000000000002'",
    ]


@pytest.mark.parametrize(
    "place", ["bb0", "aa00000000000002", "finetuned/aa00000000000002", "grid/0", "grid"]
)
def test_a_key_a_stage_a_job_and_a_grid(store: Path, place: str) -> None:
    job = store / "grid" / "0"
    job.mkdir(parents=True)
    files = {
        kind: str(store / kind / f"aa0000000000000{n}")
        for kind, n in (("dense", 1), ("finetuned", 2))
    }
    (job / "job.json").write_text(json.dumps({"row": {"files": files}}))
    given = place if "/" not in place and place != "grid" else str(store / place)
    assert from_store.matching(given, store) == [store / "finetuned" / "aa00000000000002"]


def test_several_are_listed_with_their_words_and_a_grid_attacks_each(store: Path) -> None:
    words = ["from=aa", f"store={store}"]
    message = (
        "from=aa matches 2 networks: finetuned aa00000000000002 (pruner=magnitude ratio=0.5 seed=1 "
        "trainer.precision=bf16), dense aa00000000000001 (model=resnet18); give one key, or -m to attack each"
    )
    with pytest.raises(UserError) as refused:
        from_store.expand(words, multirun=False)
    assert str(refused.value) == message
    assert from_store.expand(words, multirun=True) == [
        f"store={store}",
        "stage='aa00000000000002','aa00000000000001'",
    ]
    job = [f"store={store}", "stage='aa00000000000001'", "attack=pgd"]
    assert from_store.recorded(job) == ["model=resnet18", *job]


def test_none_lists_what_there_is(store: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"from=ff matches nothing.*finetuned aa00000000000002 \(pruner=magnitude"
    ):
        from_store.expand(["from=ff", f"store={store}"], multirun=True)
    with pytest.raises(UserError, match=r"from=nonsense matches nothing.*has no network"):
        from_store.expand(["from=nonsense", f"store={tmp_path}/none"], multirun=False)


def test_other_words_are_left_alone() -> None:
    words = ["pruner=hydra", "attack=pgd"]
    assert from_store.expand(words, multirun=True) == from_store.recorded(words) == words


def test_a_network_elsewhere_brings_its_store(store: Path) -> None:
    words = from_store.expand([f"from={store}/dense/aa00000000000001"], multirun=False)
    assert words == ["model=resnet18", f"store='{store}'", "stage='aa00000000000001'"]


def test_the_network_is_attacked_and_nothing_is_made_but_the_attack(
    job: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """By the real commands: the dense parent, the final network, and a word that changes it."""
    made = job(*TINY, "pruner=magnitude", "ratio=0.5")["row"]
    folder = Path(made["files"]["finetuned"])
    words = [word for word in TINY if not word.startswith("attack")] + [
        "pruner=magnitude",
        "ratio=0.5",
    ]
    other = ("attack=fgsm",)
    row = job(*words, *other, f"stage='{folder.name}'", command="attack")["row"]
    assert (row["made"], row["pruner"], row["sparsity"]) == (2, "magnitude", made["sparsity"])
    dense = job(*words, *other, f"stage='{Path(made['files']['dense']).name}'", command="attack")[
        "row"
    ]
    assert (dense["made"], dense["pruner"], dense["clean_acc"]) == (0, None, row["dense_clean_acc"])
    refused = job(*words, "ratio=0.6", *other, f"stage='{folder.name}'", command="attack")
    assert f"do not make the network {folder.name}" in refused["failed"]


@pytest.mark.slow
def test_a_grid_is_attacked_by_its_folder(tmp_path: Path) -> None:
    def run(script: str, *words: str) -> str:
        command = [sys.executable, script, *words, f"store={tmp_path}/stages", "trainer=cpu"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    run("prune.py", *TINY[:-1], "pruner=magnitude,random", "ratio=0.5", f"hydra.sweep.dir={tmp_path}/a", "-m",
        "report=false")  # fmt: skip
    run(
        "attack.py",
        f"from={tmp_path}/a",
        "attack=fgsm",
        f"hydra.sweep.dir={tmp_path}/b",
        "-m",
        "report=false",
    )
    rows = json.loads((tmp_path / "b" / "table.json").read_text())
    # networks of a folder may differ in any option of theirs, so each is named with all of them
    assert [(row["pruner"], row["attack"].split()[0]) for row in rows] == [
        ("magnitude search.epochs=2 finetune.epochs=2", "fgsm"),
        ("random search.epochs=2 finetune.epochs=2", "fgsm"),
    ]
    assert [row["found"] + row["made"] for row in rows] == [5, 5]
    # the attacks alone; the dense network's is shared, and either job may make it
    assert sorted(row["made"] for row in rows) == [1, 2]
