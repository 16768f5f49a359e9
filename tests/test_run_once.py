"""A job of a grid composes its options once, and its folder is the one that Hydra's own ``main`` makes."""

import runpy
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from advprune.launch.run_once import ONE_JOB, run_once

SCRIPT = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="a_script")
def main(cfg):
    print(cfg.doubled, hydra.core.hydra_config.HydraConfig.get().job.num)
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Any]:
    (tmp_path / "conf").mkdir()
    (tmp_path / "added").mkdir()
    (tmp_path / "conf" / "a_script.yaml").write_text("ratio: 0.5\ndoubled: ${ratio}${ratio}\n")
    (tmp_path / "added" / "more.yaml").write_text("defaults: [a_script, _self_]\nratio: 0.7\n")
    path = tmp_path / "a_script.py"
    path.write_text(SCRIPT)
    main: Callable[..., Any] = runpy.run_path(str(path), run_name="__main__")["main"]
    return main


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / ".hydra").iterdir()}


@pytest.mark.parametrize("flags", [(), ("--config-name", "more", "--config-dir", "added")])
def test_it_is_what_hydra_does(
    script: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
) -> None:
    composed, compose = Counter[str](), Hydra.compose_config

    def counted(*arguments: Any, **options: Any) -> Any:
        composed[way] += 1
        return compose(*arguments, **options)

    monkeypatch.setattr(Hydra, "compose_config", counted)
    monkeypatch.chdir(tmp_path)
    words = ["ratio=0.9", "hydra.run.dir=out", "hydra.job.num=3", ONE_JOB, *flags]
    monkeypatch.setattr(sys, "argv", ["a_script.py", *words])
    folders, printed = {}, {}
    for way, run in (("hydra", script), ("once", lambda: run_once(script, words))):
        run()
        folders[way], printed[way] = written(tmp_path / "out"), capsys.readouterr().out
    assert folders["once"] == folders["hydra"]
    assert set(folders["once"]) == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert printed["once"] == printed["hydra"] == "0.90.9 3\n"
    assert composed == {"hydra": 2, "once": 1}
