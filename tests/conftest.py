"""Fixtures all tests share."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: The default job made small: seconds, and every stage is still there.
TINY = (
    "model.widths=[4,4,4]", "dataset.train_images=192", "training.epochs=2", "search.epochs=2", "finetune.epochs=2",
    "select.steps=2", "select.images=64", "objective.attack.steps=2", "attack.steps=3", "attack.images=96",
    "trainer=cpu",
)  # fmt: skip


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
    from advprune.stages import job as jobs
    from advprune.stages.plan import plan_dense, plan_pruned

    assert all((train, prune, attack))  # their import registers the schemas
    output = folder / "job"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            command, [*overrides, f"store={store}", f"hydra.runtime.output_dir={output}"], return_hydra_config=True
        )
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]  # a task is given its options without Hydra's own
        plans: Any = {"train": plan_dense, "prune": plan_pruned, "attack": plan_pruned}
        value = jobs.run(cfg, plans[command])
    return json.loads((output / "job.json").read_text()) | {"value": value}
