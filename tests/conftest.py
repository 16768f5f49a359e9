"""Fixtures all tests share, and how a session runs: on all cores, in random order, and leaving nothing behind."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkout
import listings
import pytest

ROOT = Path(__file__).resolve().parents[1]
BEFORE, LEFT = pytest.StashKey[dict[str, str]](), pytest.StashKey[list[str]]()
# Before torch is imported, here and in what the tests start: several threads each would only be in
# one another's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
# Where Python writes no bytecode beside its sources, each of the hundreds of processes that the tests
# start would compile torch's and all other files again: seconds each.
if sys.dont_write_bytecode or "PYTHONDONTWRITEBYTECODE" in os.environ:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(ROOT / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
#: The default job made small: seconds, and every stage is still there.
TINY = (
    "model.widths=[4,4,4]",
    "dataset.train_images=192",
    "training.epochs=2",
    "search.epochs=2",
    "finetune.epochs=2",
    "select.steps=2",
    "select.images=64",
    "objective.attack.steps=2",
    "attack.steps=3",
    "attack.images=96",
    "trainer=cpu",
)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; a user's clone has none, and the test that asks for it skips."""
    folder = Path(os.environ.get("ADVPRUNE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real data of {folder}/data, which is not there")
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run one job of a command in this process, as Hydra would; gives back its ``job.json``, and ``value``."""
    return lambda *overrides, command="prune", store=None: run_job(
        tmp_path, command, overrides, store or tmp_path / "stages"
    )


def run_job(folder: Path, command: str, overrides: tuple[str, ...], store: Path) -> dict[str, Any]:
    """Compose the real configuration and run the real job."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    import attack
    import prune
    import train
    from advprune.pipeline import job as jobs
    from advprune.pipeline.plan import plan_attack, plan_dense, plan_pruned

    assert all((train, prune, attack))  # their import registers the schemas
    output = folder / "job"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            command,
            [*overrides, f"store={store}", f"hydra.runtime.output_dir={output}"],
            return_hydra_config=True,
        )
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]  # a task is given its options without Hydra's own
        plans: Any = {"train": plan_dense, "prune": plan_pruned, "attack": plan_attack}
        value = jobs.run(cfg, plans[command])
    return json.loads((output / "job.json").read_text()) | {"value": value}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--listings``, the order in which folders are listed."""
    parser.addoption(
        "--listings",
        type=int,
        help="seed of the order in which folders are listed; else --randomly-seed",
    )


def pytest_configure(config: pytest.Config) -> None:
    """List folders in an order that no file system has, and wait for no disk: tests kill, they pull no plug."""
    waits = os.fsync
    os.fsync = lambda _: None
    config.add_cleanup(lambda: setattr(os, "fsync", waits))
    seed = config.getoption("listings")
    config.add_cleanup(
        listings.shuffle(config.getoption("randomly_seed", 0) if seed is None else seed)
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use all cores that this process may use for the whole suite; none beside this process for files that were named.

    A worker takes seconds to start, which a file or two are not worth.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS
    return cores if whole and cores > 1 else 0


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what is in the checkout; the workers' files are looked for by the process that started them."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[BEFORE] = checkout.contents(ROOT)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail if the tests left something in the checkout, whichever of them it was."""
    before = session.config.stash.get(BEFORE, None)
    left = checkout.changed(ROOT, before) if before is not None else []
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[LEFT] = left


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name what was left."""
    if left := config.stash.get(LEFT, None):
        terminalreporter.section("the checkout changed while the tests ran", red=True)
        terminalreporter.line(
            f"A test leaves its files under tmp_path. New, changed or gone: {', '.join(left)}"
        )


@pytest.fixture(autouse=True)
def _as_if_first() -> Iterator[None]:
    """Start each test with the same random numbers, in the checkout, and undo what it does to this process."""
    import torch

    torch.manual_seed(0)
    folder, environment, path = Path.cwd(), dict(os.environ), list(sys.path)
    yield
    os.chdir(folder)
    sys.path[:] = path
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ |= environment
