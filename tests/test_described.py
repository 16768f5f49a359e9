"""Words beside a network come from the stages that made it, or are counted, or are blank; never from the command's."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY, run_job
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from safetensors.torch import save_file

from advprune.config import schema
from advprune.config.options import options_of
from advprune.models.small_cnn import small_cnn
from advprune.pipeline.job_log import _job, described, job_logger, used
from advprune.pipeline.plan import plan_dense, plan_pruned
from advprune.report.build import build
from advprune.report.data.attack_names import CONF, attack_label, members
from advprune.report.data.names import run_labels
from advprune.report.table.terminal import _title

NAMES = {
    "dataset": "digits",
    "model": "small_cnn",
    "objective": "trades",
    "threat": "linf",
    "pruner": "hydra",
    "quantizer": "none",
    "attack": "pgd",
}

#: What Hydra knows of a lone job.
HYDRA = SimpleNamespace(
    job=SimpleNamespace(name="attack"),
    mode=None,
    sweep=SimpleNamespace(dir=""),
    overrides=SimpleNamespace(task=[]),
)


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    """Of a command that attacks, with its defaults: hydra, 0.99, trades, AutoAttack."""
    schema.register()
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        cfg = compose("attack", return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of small_cnn(4, 4, 4) in which half of each prunable tensor is zero."""
    torch.manual_seed(0)
    net = small_cnn(
        num_classes=10, in_channels=1, image_size=8, mean=[0.5], std=[0.5], widths=[4, 4, 4]
    )
    state = net.state_dict()
    for name, value in state.items():
        if value.dim() > 1:
            state[name].view(-1)[: value.numel() // 2] = 0
    path = tmp_path_factory.mktemp("foreign") / "somebody.safetensors"
    save_file(state, path)
    return path


def test_a_plan_keeps_the_words_of_its_own_stages_alone(
    options: dict[str, Any], weights: Path
) -> None:
    file = plan_dense(options_of(options | {"checkpoint": str(weights)}))
    told = described(NAMES, file)
    assert {"pruner", "objective"}.isdisjoint(told)
    assert told["model"] == "small_cnn"  # what the user claims of the file
    assert {"pruner", "ratio", "objective", "training", "finetune", "search"}.isdisjoint(
        used(options, file)
    )
    here = plan_dense(options_of(options))
    assert described(NAMES, here)["objective"] == "trades"
    assert "pruner" not in described(NAMES, here)
    whole = plan_pruned(options_of(options))
    assert described(NAMES, whole) == NAMES | {"attack": "autoattack"}
    assert used(options, whole) == options
    later = plan_pruned(options_of(options | {"dense": str(weights)}))  # pruned and fine-tuned here
    assert described(NAMES, later) == NAMES | {"attack": "autoattack"}


def test_what_loggers_are_told_of_a_file(
    options: dict[str, Any], weights: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(HydraConfig, "get", lambda: HYDRA)
    plan = plan_dense(options_of(options | {"checkpoint": str(weights)}))
    job = _job(
        options_of(options | {"store": str(tmp_path)}),
        plan,
        tmp_path / "a" / "b" / "c",
        described(NAMES, plan),
    )
    said = json.dumps(
        [
            job.name,
            job.tags,
            job.config["ratio"],
            job.config.get("pruner"),
            job.config.get("objective"),
            job.config["options"].get("ratio"),
            job.config["options"].get("pruner"),
            job.config["options"].get("objective"),
        ]
    )
    assert not any(word in said for word in ("hydra", "0.99", "trades"))
    assert job.name.startswith("somebody.safetensors · autoattack linf 0.15 small_cnn digits")
    assert job.config["weights"] == "somebody.safetensors"


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "LOCAL_RANK"])
def test_a_lone_job_logs_whatever_its_shell_says_of_ranks(
    options: dict[str, Any], tmp_path: Path, monkeypatch: Any, variable: str
) -> None:
    monkeypatch.setattr(HydraConfig, "get", lambda: HYDRA)
    monkeypatch.setenv(variable, "3")
    chosen = options_of(options | {"store": str(tmp_path)})
    with job_logger(chosen, plan_dense(chosen), tmp_path / "a" / "b", NAMES) as logger:
        logger.point("dense", {"epoch": 1.0, "step": 2.0, "loss": 0.5})
    assert "dense/loss,1.0,2.0,0.5" in (tmp_path / "a" / "b" / "metrics.csv").read_text()


def test_a_file_attacked_and_pruned_from(weights: Path, tmp_path: Path) -> None:
    """Table, its header, CSV, and the report in all formats, from the same store."""
    common = (*TINY, "attack=pgd", "attack.steps=2", "report=false")
    done = run_job(tmp_path, "attack", (*common, f"checkpoint={weights}"), tmp_path / "stages")
    row = done["row"]
    assert [
        row[name] for name in ("pruner", "ratio", "compression", "objective", "kept", "checkpoint")
    ] == [None] * 6
    assert [row[name] for name in ("dense_clean_acc", "dense_robust_acc", "validation")] == [
        None
    ] * 3
    assert (row["foreign"], row["sparsity"], row["zeros"]) == ("somebody.safetensors", 0.5, 0.5)
    assert (done["names"].get("pruner"), done["names"].get("objective"), done["ratio"]) == (
        None,
        None,
        None,
    )
    assert row["attack"] == "pgd images=96 steps=2"
    assert "trained" not in _title([row])
    build(tmp_path / "stages", tmp_path / "report", [])  # no table names anything
    (found,) = json.loads((tmp_path / "report" / "leaderboard.json").read_text())["rows"]
    assert (found["foreign"], found["objective"], found["pruner"], found["ratio"]) == (
        row["foreign"],
        None,
        None,
        None,
    )
    assert (found["sparsity"], found["attack"]) == (0.5, "pgd images=96 steps=2")
    for end in ("csv", "md", "tex"):
        text = (tmp_path / "report" / f"leaderboard.{end}").read_text()
        assert "somebody.safetensors" in text
        assert not any(word in text for word in ("hydra", "0.99", "natural", "trades"))


def test_a_failed_job_of_a_file_has_no_pruner(tmp_path: Path) -> None:
    done = run_job(
        tmp_path, "attack", (*TINY, "attack=pgd", "checkpoint=nowhere.pt"), tmp_path / "stages"
    )
    assert "failed" in done
    assert (done["names"].get("pruner"), done["names"].get("objective"), done["ratio"]) == (
        None,
        None,
        None,
    )


def test_each_member_of_the_group_is_called_by_its_name() -> None:
    for name, member in members().items():
        assert (
            attack_label({"attack": member, "seed": "${seed}", "threat": "${threat}"}).split(" ")[0]
            == name
        )


@pytest.mark.parametrize(
    ("member", "changed", "name"),
    [
        ("autoattack", {"engine": "fast", "images": 50}, "autoattack engine=fast images=50"),
        ("pgd", {"steps": 100, "restarts": 5}, "pgd steps=100 restarts=5"),
        ("fgsm", {"images": 10}, "fgsm images=10"),
        ("pgd", {"rel_step": 0.25, "seed": 3}, "pgd rel_step=0.25 seed=3"),
        ("certify_smoothing", {"sigma": 0.5}, "certify_smoothing sigma=0.5"),
        ("certify_smoothing", {"sigma": 0.25}, "certify_smoothing"),
        ("square", {"seed": 0, "n_queries": 100}, "square n_queries=100"),
        (
            "translation",
            {"pixels": 2, "perturbation": "up to 2 px, worst of 1"},
            "translation pixels=2",
        ),
    ],
)
def test_an_attack_is_called_by_what_is_not_as_its_member(
    member: str, changed: dict[str, Any], name: str
) -> None:
    attack = members()[member] | changed
    context = {"attack": attack, "seed": 0, "threat": "${threat}"}
    attack = {
        key: 0 if value == "${seed}" else 0.25 if str(value).startswith("${oc") else value
        for key, value in attack.items()
    }
    assert attack_label(context | {"attack": attack}) == name


def test_an_attack_of_nobodys_has_no_name() -> None:
    assert attack_label({"attack": {"_target_": "mine.attack", "steps": 3}}) is None


def test_words_of_a_run_that_no_table_names() -> None:
    stage = lambda **options: SimpleNamespace(options=options, result={}, key="k")  # noqa: E731
    dense = stage(model={"_target_": "m.net"}, weights="a/file.pt")
    tuned = stage(recipe={"epochs": 1}, objective={"_target_": "o.trades"})
    evaluated = stage(
        dataset={"_target_": "d.digits"},
        attack=members()["autoattack"] | {"engine": "fast"},
        seed=0,
    )
    run = SimpleNamespace(
        line=(dense, tuned, evaluated),
        dense=dense,
        evaluated=evaluated,
        final=tuned,
        source=None,
        stage=lambda kind: {"dense": dense}.get(kind),
    )
    told = run_labels(run, {})
    assert told["objective"] == "trades"
    assert told["attack"].startswith("autoattack ")
    assert "engine=fast" in told["attack"]
