"""Words of a grid that only some members of a group know."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig

from advprune.config.job_names import names, unescaped
from advprune.config.overrides import defer_group_overrides

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "words",
    [
        "-m pruner=gap,filters pruner/criterion=kl pruner.scope=layer",
        "pruner.x=[1,2] pruner=gap,filters -m",
        "-m pruner=gap,filters ratio=0.5 ~pruner.scope +pruner.x=1",
    ],
)
def test_words_of_a_swept_group_wait_for_their_jobs(words: str) -> None:
    found = defer_group_overrides(words.split())
    for word, given in zip(found, words.split(), strict=True):
        inside = given.lstrip("+").startswith(("pruner.", "pruner/"))
        name, _, value = given.partition("=")
        assert word == (f"{name}=choice({value})" if inside else given)
    assert [unescaped(word) for word in found] == words.split()


@pytest.mark.parametrize(
    "words",
    [
        "pruner=filters pruner/criterion=kl",
        "-m pruner=filters pruner/criterion=l1,kl pruner.scope=layer",
        "-m pruner=gap,filters pruner.scope=layer,global ratio=0.5 hydra.sweep.dir=pruner",
        "-m pruner=a,b ratio=[",
    ],
)
def test_other_words_are_left_as_they_are(words: str) -> None:
    assert defer_group_overrides(words.split()) == words.split()


@pytest.mark.parametrize(
    ("swept", "word"),
    [
        ("a=choice(b)", "a=b"),
        (r"a.b=$\{c.d\}", "a.b=${c.d}"),
        (r"a=x_$\{oc.env\:X\}_$\{c\}", "a=x_${oc.env:X}_${c}"),
        (r"a='b\,c'", r"a='b\,c'"),
    ],
)
def test_a_word_is_shown_as_it_was_typed(swept: str, word: str) -> None:
    assert unescaped(swept) == word


def test_a_grid_asks_each_member_for_its_own_option(tmp_path: Path) -> None:
    """The default pruner has no criterion: Hydra refused the command. A ratio out of reach ends the jobs early."""
    words = [
        "-m",
        "pruner=filters,blocks",
        "pruner/criterion=kl",
        "pruner.criterion.images=48",
        "ratio=0.9999",
    ]
    words += [f"store={tmp_path}/stages", f"hydra.sweep.dir={tmp_path}/grid"]
    done = subprocess.run(
        [sys.executable, "prune.py", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ratio=0.9999 is not possible" in done.stdout + done.stderr
    assert "blocks needs a network of residual blocks" in done.stdout + done.stderr


def test_what_a_grid_varies_outside_the_groups_has_a_name_in_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "pruner=hydra",
        "finetune.epochs=1,2",
        "search.epochs=3",
        "trainer.precision=fp32,bf16",
    ]
    text = yaml.safe_dump({"hydra": {"overrides": {"task": words}}})
    (tmp_path / "multirun.yaml").write_text(text)
    job = ["pruner=hydra", "finetune.epochs=2", "search.epochs=3", "trainer.precision=bf16"]
    chosen = {"pruner": "hydra", "objective": "trades"}
    hydra = SimpleNamespace(
        runtime=SimpleNamespace(choices=chosen), overrides=SimpleNamespace(task=job)
    )
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    assert names(tmp_path / "0") == {
        "pruner": "hydra finetune.epochs=2",
        "objective": "trades trainer.precision=bf16",
    }
    (tmp_path / "multirun.yaml").unlink()
    assert names(tmp_path / "0") == chosen
