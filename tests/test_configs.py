"""Every YAML that a user can name composes and passes the door; every command that a page shows is a real one."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override
from PIL import Image
from presets import CONF, composed, options

from advprune.config import validate
from advprune.config.fingerprints import with_fingerprints
from advprune.config.job_names import GROUPS
from advprune.config.options import options_of
from advprune.errors import UserError
from advprune.pipeline.dry_run import dry_run

#: What the others of its group start from; no member itself.
PARTIAL = {("attack", "frame"), ("pruner", "base")}
#: What a member needs besides: files of the user, and the default network has no blocks, nor can it
#: lose 99 %.
NEEDS = {
    ("model", "custom"): ["model._target_=networks.OwnNet"],
    ("dataset", "custom"): [
        "dataset._target_=advprune.datasets.digits.Digits",
        "dataset.num_classes=10",
        "dataset.channels=1",
        "dataset.image_size=8",
    ],
    ("pruner", "filters"): ["ratio=0.5"],
    ("pruner", "hydra_filters"): ["ratio=0.5"],
    ("pruner", "harp_filters"): ["ratio=0.5"],
    ("pruner", "radmm_filters"): ["ratio=0.5"],
    ("pruner", "twin_rep_filters"): ["ratio=0.5"],
    ("pruner", "blocks"): ["ratio=0.3", "model=resnet20"],
    ("attack", "certify_smoothing"): [
        "threat=l2"
    ],  # no radius reaches the corners of the default cube
    ("attack", "published_corruptions"): ["attack.root=CIFAR-10-C"],
    ("attack", "ddn"): ["threat=l2"],
    ("attack", "pgd_fake_quant"): ["quantizer=ptq_static"],
    ("attack", "pgd_float_twin"): ["quantizer=ptq_static"],
    # sets that are not here to count
    ("experiment", "mnist_smoothing"): ["attack.images=null"],
    **{
        ("experiment", f"small_benchmark_{name}"): ["attack.images=null"]
        for name in ("mnist_weights", "mnist_filters", "cifar10_weights", "cifar10_filters")
    },
}
#: What a command may lack here, and nowhere else: extras, files of weights, sets to download.
LACKING = (
    "which is not installed: pip install",
    "there is no file resnet20.th",
    "there is no file FILE",
    "there is no file model.safetensors",
    "could not be downloaded",
)
#: Groups that train.py has not.
PRUNING = {"pruner", "experiment"}
MEMBERS = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if (path.parent.name, path.stem) not in PARTIAL
)
COMMAND = re.compile(
    r"(?:python|\.venv/bin/python) (train|prune|attack)\.py(?! -sc)((?: [^\s`#|]+)+)"
)
#: The pages that add a method show commands of members that are not there yet.
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted(ROOT.glob("docs/*.md")) if not page.name.startswith("add_a")),
    *sorted(CONF.rglob("*.yaml")),
]
#: A backslash at the end of a line, and what stands before the words of the next one.
GOES_ON = re.compile(r"\\\n#? *")
TEXTS = [GOES_ON.sub("", page.read_text()) for page in PAGES]
COMMANDS = sorted(
    {
        (command, words.strip())
        for text in TEXTS
        for command, words in COMMAND.findall(text)
        if not words.strip().startswith("from=")  # is read before Hydra: tests/test_from_store.py
    }
)


def admit(given: dict[str, Any]) -> None:
    """What the door does before anything is loaded."""
    validate.check_numbers(given)
    validate.check_signatures(given, GROUPS)
    if given["dataset"]["num_classes"] is None:  # the folder says how many
        given = with_fingerprints(given)
    dry_run(options_of(given))


def first_job(words: str) -> list[str]:
    """The overrides of the first job of a command line; flags are left out."""
    overrides = OverridesParser.create().parse_overrides(
        [w for w in shlex.split(words) if not w.startswith("-")]
    )
    return [f"{o.get_key_element()}={first_value(o)}" for o in overrides]


def first_value(override: Override) -> Any:
    """What the first job of a grid, or of a search, may have."""
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return "null" if value.list[0] is None else value.list[0]
    return value.start if isinstance(value, IntervalSweep) else override.get_value_element_as_str()


@pytest.mark.parametrize(("group", "member"), MEMBERS, ids=[f"{g}/{m}" for g, m in MEMBERS])
def test_every_member_of_every_group_passes_the_door(
    group: str, member: str, tmp_path: Path
) -> None:
    """By one command each: all have the same groups, and what prune.py makes of an experiment is tried below."""
    command = "attack" if group == "experiment" else "prune" if group in PRUNING else "train"
    needs = NEEDS.get((group, member), [])
    if member == "timm":
        pytest.importorskip("timm", reason="timm is an extra")
    if member == "image_folder":
        needs = [f"dataset.root={four_classes(tmp_path)}"]
    admit(options(command, f"{group}={member}", *needs))


def four_classes(root: Path) -> Path:
    """Lay out what FOLDER stands for: a class-per-folder tree."""
    for place in (f"{part}/{name}" for part in ("train", "test") for name in "abcd"):
        (root / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / place / "0.png")
    return root


@pytest.fixture(autouse=True)
def _downloads_end_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a set that is not here be looked for, in vain, outside of the checkout."""
    monkeypatch.setenv("ADVPRUNE_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("command", ["train", "prune", "attack"])
def test_every_group_is_one_of_every_command(command: str) -> None:
    given = [
        "pruner=magnitude",
        "quantizer=ptq_static",
        "model=resnet20",
        "dataset=mnist",
        "attack=worst_of",
        "objective=pgd",
        "threat=l2",
        "trainer=cpu",
        "logger=tensorboard",
    ]
    assert {word.split("=")[0] for word in given} | {"experiment"} == {
        group for group, _ in MEMBERS
    }
    admit(
        options(
            command,
            *(word for word in given if command != "train" or word.split("=")[0] not in PRUNING),
        )
    )


@pytest.mark.parametrize("path", sorted(CONF.glob("experiment/*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_says_how_to_run_it_and_where_it_is_from(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    command = re.compile(rf"python prune\.py (-m )?experiment={path.stem}\b")
    assert any(map(command.search, lines))
    from_elsewhere = ("https://arxiv.org/abs/", "https://github.com/", "rows of the Adversarial")
    assert any(source in path.read_text() for source in (*from_elsewhere, "Our own leaderboard"))


def test_the_hydra_experiment_is_the_papers_budget() -> None:
    """Sehwag et al. 2020: 100 + 20 + 100 epochs of SGD at 0.1, 0.1 and 0.01, weight decay 1e-4, TRADES-10 at 8/255."""
    found = options("prune", "experiment=hydra_cifar10_vgg16")
    phases = [found[name] for name in ("training", "search", "finetune")]
    assert [(p["epochs"], p["learning_rate"]) for p in phases] == [
        (100, 0.1),
        (20, 0.1),
        (100, 0.01),
    ]
    assert {(p["optimizer"], p["schedule"], p["momentum"], p["batch_size"]) for p in phases} == {
        ("sgd", "cosine", 0.9, 128)
    }
    assert {p["weight_decay"] for p in phases} == {1e-4}
    inner = found["objective"]["attack"]
    assert (
        found["threat"]["eps"],
        inner["steps"],
        inner["rel_step"],
        found["objective"]["beta"],
    ) == (
        "8/255",
        10,
        0.25,
        6.0,
    )
    assert (found["model"]["_target_"], found["pruner"]["process"]["init"]) == (
        "advprune.models.vgg.VGG16BN",
        "scaled",
    )
    assert (
        options("prune", "experiment=hydra_cifar10_vgg16", "pruner=magnitude")["pruner"]["process"]
        is None
    )


def test_the_readme_names_every_objective() -> None:
    (row,) = re.findall(
        r"^\| `objective` \| what training minimises: (.*) \|$", TEXTS[0], re.MULTILINE
    )
    named = set(re.split(r"[,;] (?:for certificates )?", row))
    assert named == {member for group, member in MEMBERS if group == "objective"}


def test_a_misspelt_option_does_not_pass() -> None:
    with pytest.raises(UserError, match=r"did you mean attack\.steps"):
        admit(options("prune", "+attack.stpes=3"))
    with pytest.raises(UserError, match=r"pruner has no option shape: did you mean pruner\.scope"):
        admit(options("prune", "+pruner.shape=3"))


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[f"{c} {w}" for c, w in COMMANDS])
def test_a_command_that_a_page_shows_is_a_real_one(
    command: str, words: str, tmp_path: Path
) -> None:
    four_classes(tmp_path)
    words = re.sub(r"dataset\.root=\S+", f"dataset.root={tmp_path}", words)
    if "dataset.root=" in words:
        words += " attack.images=null"  # the stand-in has two
    # several nodes want several processes, which the page's srun starts
    alone = [word for word in first_job(words) if not word.startswith("trainer.nodes=")]
    try:
        admit(options(command, *alone))
    except UserError as error:
        lacking = [sentence for sentence in LACKING if sentence in str(error)]
        if not lacking:
            raise
        pytest.skip(str(error))


def test_the_pages_are_read_and_a_wrong_command_would_fail() -> None:
    assert len(COMMANDS) > 20
    assert first_job("-m ratio=0.9,0.99 model.widths=[4,4,4] seed=1,2") == [
        "ratio=0.9",
        "model.widths=[4,4,4]",
        "seed=1",
    ]
    with pytest.raises(Exception, match="no_such_pruner"):
        options("prune", *first_job("pruner=no_such_pruner,hydra"))


@pytest.mark.parametrize("command", ["train", "prune", "attack"])
def test_help_is_a_page_of_its_own_for_each_command(command: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, f"{command}.py", "--help"]
    page = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert page.startswith(f"{command}.py: ")
    assert len(re.findall(rf"^ +python {command}\.py", page, re.MULTILINE)) in (5, 6)
    for group, member in MEMBERS:
        assert re.search(rf"^{group}: .*\b{member}\b", page, re.MULTILINE), (group, member)
    assert 'eval "$(advprune completion bash)"' in page
    for word in ("ratio ", "threat ", "seed ", "--multirun", "--info", "--cfg job"):
        assert word in page


@pytest.mark.parametrize("command", ["train", "prune", "attack"])
def test_an_experiment_chooses_launcher_and_sweeper_and_a_word_overrules_it(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: slurm\n"
        "  - override /hydra/sweeper: optuna\n"
    )
    mine = ("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")

    def chosen(*words: str) -> tuple[str, str]:
        hydra = composed(*words, command=command, hydra=True).hydra
        return hydra.launcher._target_.split(".")[-1], hydra.sweeper._target_.split(".")[-1]

    own = chosen()
    assert own == ("Local", "FoundFirst")
    launcher, sweeper = chosen(*mine)
    assert launcher == "Slurm"
    assert sweeper not in own
    assert chosen(*mine, "hydra/launcher=basic")[0] == "BasicLauncher"
