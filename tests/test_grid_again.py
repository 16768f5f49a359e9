"""A grid given again: the shortcut composes what Hydra composes, and only unfinished jobs are launched."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

import prune
from advprune.config import fingerprints
from advprune.config.compose import Composer
from advprune.launch.skip_finished import SkipFinishedLauncher, grid_order
from advprune.tracking.grid_place import RECORD


@pytest.fixture
def hydra_of(tmp_path: Path) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    """Hydra's loader, and the options of a ``-m`` command."""
    assert prune  # its import registers the schemas
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [f"hydra.sweep.dir={tmp_path}", "hydra.mode=MULTIRUN"]
        yield (
            GlobalHydra.instance().config_loader(),
            compose("prune", overrides, return_hydra_config=True),
        )


#: One after the other, as in a grid that varies all of it, so that what one leaves behind would
#: show in the next.
JOBS = (
    ("ratio=0.9", "seed=0"),
    ("ratio=0.99", "seed=1"),
    ("ratio=0.9", "seed=0"),
    ("pruner=magnitude", "ratio=0.5", "seed=3"),
    ("pruner=magnitude", "ratio=0.6", "seed=3", "pruner.scope=global"),
    ("pruner=filters", "pruner/criterion=hrank", "ratio=0.5"),
    ("experiment=hydra_cifar10_vgg16", "seed=1"),
    ("model.widths=[4,4]", "training.epochs=3"),
    ("model.widths=[8,8]", "training.epochs=4"),
    ("training={epochs:7}", "training.clip=1.5"),
    ("training={epochs:8}", "training.clip=2.5"),
    ("training.epochs=7", "finetune.epochs=${training.epochs}"),
    ("training.epochs=8", "finetune.epochs=${training.epochs}"),
    ("threat.eps=8/255", "select.keep=last"),
    ("threat.eps=0.1", "select.keep=null"),
    ("+attack.new=0.1", "attack.steps=7"),
    ("+attack.new=0.2", "attack.steps=8"),
    ("~objective.beta", "attack.steps=8"),
    ("attack=transfer", "model@source_model=resnet20", "seed=4"),
    ("dense='a=b.pt'", "seed=4"),
    ("ratio=0.9", "seed=0"),
)


def test_the_shortcut_composes_what_hydra_composes(
    hydra_of: tuple[ConfigLoader, DictConfig],
) -> None:
    loader, master = hydra_of
    composer = Composer(loader, master, JOBS)
    for job in JOBS:
        options, whole = composer(job)
        expected = loader.load_sweep_config(master, list(job))
        for group in ("overrides", "choices"):
            found, wanted = (
                (c.hydra if group == "overrides" else c.hydra.runtime)[group]
                for c in (whole, expected)
            )
            assert OmegaConf.to_container(found) == OmegaConf.to_container(wanted), job
        with open_dict(expected):
            del expected["hydra"]
        resolved = [
            OmegaConf.to_container(c, resolve=True, enum_to_str=True) for c in (options, expected)
        ]
        assert resolved[0] == resolved[1], job
        assert OmegaConf.is_struct(options)


def test_jobs_of_one_choice_are_composed_once(
    hydra_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, master = hydra_of
    composed: list[list[str]] = []
    whole = loader.load_sweep_config
    monkeypatch.setattr(loader, "load_sweep_config", lambda m, o: composed.append(o) or whole(m, o))
    jobs = [
        (f"pruner={p}", f"seed={seed}", "ratio=0.9")
        for p in ("hydra", "magnitude")
        for seed in range(5)
    ]
    composer = Composer(loader, master, jobs)
    assert [composer(job)[0].seed for job in jobs] == [0, 1, 2, 3, 4] * 2
    assert composed == [["pruner=hydra", "ratio=0.9"], ["pruner=magnitude", "ratio=0.9"]]


@pytest.mark.parametrize(
    "job", [("ratoi=0.9",), ("ratio=99%",), ("pruner=magnitud",), ("seed=1", "training.epoch=3")]
)
def test_what_hydra_refuses_is_refused_in_its_words(
    hydra_of: tuple[ConfigLoader, DictConfig], job: Any
) -> None:
    loader, master = hydra_of
    with pytest.raises(ConfigCompositionException) as expected:
        loader.load_sweep_config(master, list(job))
    with pytest.raises(ConfigCompositionException) as found:
        Composer(loader, master, [job, ("seed=0",)])(job)
    assert str(found.value) == str(expected.value)


class Inner:
    """A launcher that only notes what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[list[str]], int]] = []

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> list[JobReturn]:
        self.calls.append(([list(job) for job in job_overrides], initial_job_idx))
        return [
            JobReturn(status=JobStatus.COMPLETED, _return_value=f"made {job[0]}")
            for job in job_overrides
        ]


def found_first(
    hydra_of: tuple[ConfigLoader, DictConfig], unfinished: set[float]
) -> tuple[Any, Inner, list[Any]]:
    loader, master = hydra_of
    inner, seen = Inner(), []

    def task(cfg: DictConfig) -> str:
        hydra = HydraConfig.get()
        seen.append(
            (
                cfg.ratio,
                hydra.job.num,
                Path(hydra.runtime.output_dir).name,
                list(hydra.overrides.task),
            )
        )
        if cfg.ratio not in unfinished:
            record = Path(hydra.runtime.output_dir) / RECORD
            record.parent.mkdir()
            record.write_text("{}")
        return f"found ratio={cfg.ratio}"

    launcher = SkipFinishedLauncher(inner)  # type: ignore[arg-type]
    launcher.setup(
        hydra_context=HydraContext(config_loader=loader, callbacks=None),
        task_function=task,
        config=master,
    )  # type: ignore[arg-type]
    return launcher, inner, seen


def test_only_unfinished_jobs_are_launched(
    hydra_of: tuple[ConfigLoader, DictConfig], tmp_path: Path
) -> None:
    launcher, inner, seen = found_first(hydra_of, {0.2, 0.4})
    jobs = [[f"ratio={ratio}"] for ratio in (0.1, 0.2, 0.3, 0.4)]
    returns = launcher.launch(jobs, 10)
    assert [r.return_value for r in returns] == [
        "found ratio=0.1",
        "made ratio=0.2",
        "found ratio=0.3",
        "made ratio=0.4",
    ]
    assert inner.calls == [([["ratio=0.2"], ["ratio=0.4"]], 12)]
    found = [
        (ratio, number, folder) for ratio, number, folder, _ in seen if ratio not in (0.2, 0.4)
    ]
    assert found == [(0.1, 10, "10"), (0.3, 11, "11")]
    assert seen[0][3] == ["ratio=0.1"]
    assert json.loads((tmp_path / "jobs.json").read_text()) == jobs


def test_all_found_launches_nothing(hydra_of: tuple[ConfigLoader, DictConfig]) -> None:
    launcher, inner, _ = found_first(hydra_of, set())
    assert [r.return_value for r in launcher.launch([["ratio=0.1"], ["ratio=0.2"]], 0)] == [
        "found ratio=0.1",
        "found ratio=0.2",
    ]
    assert inner.calls == []


@pytest.mark.parametrize(
    "word", ["hydra/launcher=basic", "hydra/launcher=slurm", "hydra.launcher.jobs=3"]
)
def test_a_job_cannot_choose_the_launcher(
    hydra_of: tuple[ConfigLoader, DictConfig], word: str
) -> None:
    """As the file of one of several experiments may: Hydra passes over it silently (#2946)."""
    launcher, inner, _ = found_first(hydra_of, {0.1})
    with pytest.raises(SystemExit, match=f"one launcher runs all jobs .* give the command {word},"):
        launcher.launch([["ratio=0.1", word]], 0)
    assert inner.calls == []


def test_folders_named_by_the_user_are_left_to_hydra(
    hydra_of: tuple[ConfigLoader, DictConfig],
) -> None:
    launcher, inner, seen = found_first(hydra_of, set())
    launcher.config.hydra.sweep.subdir = "${hydra.job.override_dirname}"
    launcher.launch([["ratio=0.1"]], 0)
    assert inner.calls == [([["ratio=0.1"]], 0)]
    assert not seen


def test_the_table_has_the_order_of_the_words(tmp_path: Path) -> None:
    """Found jobs have the first numbers, and yet the table is the same as when all were made."""
    (tmp_path / "jobs.json").write_text(json.dumps([["ratio=0.1"], ["ratio=0.2"], ["ratio=0.1"]]))
    records = [{"number": 0, "overrides": ["ratio=0.2"]}, {"number": 1, "overrides": ["ratio=0.1"]}]
    assert [r["number"] for r in sorted(records, key=grid_order(tmp_path))] == [1, 0]
    assert [r["number"] for r in sorted(records, key=grid_order(tmp_path / "none"))] == [0, 1]


def test_foreign_weights_are_read_once_for_all_jobs(
    hydra_of: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "a.pt").write_bytes(b"weights")
    reads: list[str] = []
    original = fingerprints.checksum
    monkeypatch.setattr(fingerprints, "checksum", lambda path: reads.append(path) or original(path))
    launcher, _, _ = found_first(hydra_of, set())
    task = launcher.task
    launcher.task = lambda cfg: (
        task(cfg),
        fingerprints.weights_identity(str(tmp_path / "a.pt"))[0],
    )[1]
    returns = launcher.launch([["ratio=0.1"], ["ratio=0.2"]], 0)
    assert [r.return_value for r in returns] == [original(tmp_path / "a.pt")] * 2
    assert len(reads) == 1
    fingerprints.weights_identity(str(tmp_path / "a.pt"))[0]
    assert len(reads) == 2
