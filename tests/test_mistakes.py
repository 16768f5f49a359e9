"""Plausible mistakes on the command line: one sentence on stderr with the right word, exit 1, nothing trained."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import attack
import prune
import train
from advprune.config import refusals, unknown_options
from advprune.config.command_line import in_order, read, understand
from advprune.config.peers import nearest
from advprune.config.schema import Vocabulary
from advprune.errors import UserError

#: What is understood from the words alone.
AT_ONCE = [
    ("train experiment=nonsense", "experiment=nonsense is not known: "),
    ("prune experiment=hydra_cifar10_vgg_16", "did you mean experiment=hydra_cifar10_vgg16?"),
    ("train attack=aa", "did you mean attack=autoattack?"),
    ("train attack=AutoAttack", "did you mean attack=autoattack?"),
    ("train attack=auto-attack", "did you mean attack=autoattack?"),
    ("prune pruner=hydar", "did you mean pruner=hydra?"),
    ("prune pruner=mag", "did you mean pruner=magnitude?"),
    ("prune -m pruner=hydra,magnitdue", "did you mean pruner=magnitude?"),
    ("prune -m pruner=hydra,magnitdue hydra/launcher=local", "did you mean pruner=magnitude?"),
    ("train model=resnet-18", "did you mean model=resnet18?"),
    ("train model=wideresnet", "did you mean model=wrn_28_10?"),
    ("train dataset=cifar", "did you mean dataset=cifar10"),
    ("train objective=trade", "did you mean objective=trades?"),
    ("train threat=l_inf", "did you mean threat=linf?"),
    ("train trainer=gup", "did you mean trainer=gpu?"),
    ("train attack=pgd.yaml", "write attack=pgd, without .yaml"),
    ("train attack=frame", "attack=frame is not known"),
    ("prune ratio=0.5,0.9", "add -m for one job of each"),
    ("prune model.widths=4,4,4", "write model.widths=[4,4,4] for one list"),
    ("prune ratio = 0.5", "write ratio=0.5"),
    ("prune ratio= 0.5", "write ratio=0.5"),
    ("prune ratio =0.5", "write ratio=0.5"),
    ("prune 'ratio =0.5'", "write ratio=0.5"),
    ("prune ratio 0.5", "write ratio=0.5"),
    ("prune ratio", "ratio has no value: write ratio="),
    ("prune ratio=", "ratio= has no value: give one, or ratio=null"),
    ("prune pruner=", "pruner= has no value: pruner is one of activation, "),
    ("prune =0.5", "names no option"),
    ("prune pruner", "write pruner=activation"),
    ("prune hydra", "hydra alone says nothing: write pruner=hydra"),
    ("train attack.yaml", "attack.yaml is no option: write attack="),
    ("train autoattack.yaml", "write attack=autoattack"),
    ("prune pruner.criterion=l1", "write pruner/criterion=l1"),
    ("prune ~pruner", "~pruner takes away what this command needs"),
    ("prune ~pruner.scope", "give pruner.scope=VALUE, or pruner.scope=null"),
    ("attack checkpoint=runs/epoch=3.ckpt", """write 'checkpoint="runs/epoch=3.ckpt"'"""),
    ("prune dense=a[b].pt", """write 'dense="a[b].pt"'"""),
    ("prune 'dense=my{x}.pt'", """write 'dense="my{x}.pt"'"""),
    ("prune 'store=/data(1)/x'", """write 'store="/data(1)/x"'"""),
    ("prune -m ratio=0.5 --cfg job", "--cfg prints the options of one job"),
    ("prune --resolve", "write --cfg job --resolve"),
    ("prune --ratio 0.9", "without dashes and with =, as ratio=0.9"),
    ("prune --ratio=0.9", "without dashes and with =, as ratio=0.9"),
    ("prune -ratio=0.9", "without dashes and with =, as ratio=0.9"),
    ("prune --epochs 3", "as training.epochs=3"),
    ("prune --multi-run", "did you mean -m"),
    ("prune --multi_run", "did you mean -m"),
    ("prune --cfg jobs", "the flags of this command cannot be read"),
    ("prune -m seed=0,0", "asks for 0 twice"),
    ("prune epochs", "here it is training.epochs"),
]
#: What needs the options, composed.
COMPOSED = [
    ("prune prunner=hydra", "did you mean pruner?"),
    ("prune lr=0.1", "here it is training.learning_rate"),
    ("prune +lr=0.1", "here it is training.learning_rate"),
    ("prune +ratoi=0.5", "did you mean ratio?"),
    ("prune ++ratoi=0.5", "did you mean ratio?"),
    ("prune +ratio=0.5", "write it without +"),
    ("prune ratio=ninety", "ratio=ninety is not possible: it must be a number"),
    ("prune ratio=99%", "ratio=99% is not possible"),
    ("prune training.epochs=2.5", "training.epochs=2.5 is not possible: it must be a whole number"),
    ("prune training.optimizer=adamw", "it must be one of sgd, adam"),
    ("prune training.schedule=cos", "it must be one of cosine, "),
    ("prune trainer.max_epochs=3", "here it is training.epochs"),
    ("attack ckpt_path=x.pt", "checkpoint=FILE of attack.py"),
    ("prune checkpoint=x.pt", "only attack.py reads one"),
    ("prune epochs=3", "here it is training.epochs"),
    ("prune batch_size=3", "here it is training.batch_size"),
    ("prune data=cifar10", "here it is dataset"),
    ("prune arch=resnet18", "here it is model"),
    ("prune eps=8/255", "here it is threat.eps"),
    ("prune sparsity=0.9", "here it is ratio=…, the share removed"),
    ("prune momentum=0.9", "did you mean training.momentum"),
    ("prune attack.stesp=3", "did you mean attack.steps?"),
    ("prune pruner.qqqq=3", "pruner has criterion, process"),
    ("prune trining.epochs=3", "did you mean training.epochs?"),
    ("train ratio=0.9", "train.py has no option ratio"),
    ("prune ratio=0.9 seed=1 attack.stepz=3", "did you mean attack.steps"),
    (
        "prune experiment=small_benchmark_digits_weights trining.epochs=3",
        "did you mean training.epochs",
    ),
    ("train pruner=hydra", "train.py has no pruner: prune.py has it"),
    ("prune pruner/criterion=l1", "such as pruner=filters"),
]


def refusal(line: str, capsys: Any) -> str:
    """What the command ends with."""
    command, *words = shlex.split(line)
    with pytest.raises(SystemExit) as end:
        understand(words, _main(command))
    assert end.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


def _main(command: str) -> Any:
    return {"train": train, "prune": prune, "attack": attack}[command].main


@pytest.mark.parametrize(("line", "cure"), AT_ONCE, ids=[line for line, _ in AT_ONCE])
def test_words_that_cannot_be_meant_so(line: str, cure: str, capsys: Any) -> None:
    assert cure in refusal(line, capsys)


@pytest.mark.parametrize(("line", "cure"), COMPOSED, ids=[line for line, _ in COMPOSED])
def test_words_that_the_options_have_no_place_for(line: str, cure: str) -> None:
    command, *words = shlex.split(line)
    vocabulary = Vocabulary((ROOT / "conf",), command)
    overrides = read(words, vocabulary, multirun=False)
    try:
        unknown_options.check_added(overrides, vocabulary)
        said = refusals.wrong_word(words, vocabulary)
    except UserError as error:
        said = str(error)
    assert cure in (said or "nothing")
    assert "\n" not in (said or "")


@pytest.mark.parametrize(
    "words",
    [
        "pruner=hydra -m ratio=0.5,0.9 seed=0,1",
        "ratio=0.5 pruner=hydra,random --multirun store=x",
        "-m 'training.learning_rate=tag(log,interval(0.01,0.3))' hydra/sweeper=optuna",
        "pruner=filters pruner/criterion=kl pruner.criterion.images=48",
        "model@source_model=resnet20 attack=transfer",
        "'dense=\"a=b.pt\"' model.widths=[4,4,4] attack.images=null",
        "--cfg job --resolve ratio=0.5",
    ],
)
def test_what_is_right_passes_with_flags_anywhere(words: str) -> None:
    given = shlex.split(words)
    flags, own = in_order(given)
    assert sorted([*flags, *own]) == sorted(given)
    assert all("=" in word for word in own)
    read(
        own, Vocabulary((ROOT / "conf",), "prune"), multirun=bool({"-m", "--multirun"} & set(flags))
    )


def test_a_word_given_twice_is_told_and_the_last_counts(capsys: Any) -> None:
    _, words = understand(["ratio=0.5", "seed=1", "ratio=0.9", "seed=1"], _main("prune"))
    assert words == ["ratio=0.5", "seed=1", "ratio=0.9", "seed=1"]
    assert (
        capsys.readouterr().err
        == "note: ratio is given twice: ratio=0.9 counts, and ratio=0.5 does not\n"
    )


def test_nearest() -> None:
    assert nearest("aa", ["pgd", "autoattack"]) == "autoattack"
    assert nearest("zzz", ["pgd", "autoattack"]) is None


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        (
            "prune.py ratio=ninety",
            "ratio=ninety is not possible: it must be a number, at least 0 and below 1, or null",
        ),
        ("train.py --config-name=trian", "--config-name=trian is not known: did you mean train?"),
        ("train.py hydra/launcher=locl", "did you mean hydra/launcher=local?"),
        (
            "train.py training.momentum=2",
            "training.momentum=2 is not possible: it must be at least 0 and below 1",
        ),
        ("train.py store=/proc/x", "/proc/x"),
    ],
)
def test_the_whole_command_ends_with_one_sentence(line: str, cure: str, tmp_path: Path) -> None:
    words = [*shlex.split(line), f"hydra.run.dir={tmp_path}/run", "report=false"]
    if "store=" not in line:
        words.append(f"store={tmp_path}/stages")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert cure in done.stderr.replace("\n", "")
    assert "making" not in done.stdout
    assert not (tmp_path / "stages" / "dense").exists()
