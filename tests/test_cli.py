"""The command ``advprune`` in a checkout, and from a wheel in an empty folder."""

import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from advprune import cli
from advprune.runtime import installation

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def run(*words: str, cwd: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "advprune", *words], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command(flag: str, capsys) -> None:
    assert cli.main([flag]) == 0
    told = capsys.readouterr().out
    assert all(f"  {command} " in told for command in cli.COMMANDS)


def test_without_a_command_there_is_help_and_a_failure(capsys) -> None:
    assert cli.main([]) == 2
    assert capsys.readouterr().out.startswith("usage: advprune COMMAND")


def test_the_version_is_the_packages(capsys) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "advprune"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("prun", "did you mean prune?"),
        ("pruner=hydra", "write advprune prune pruner=hydra"),
        ("-m", "write advprune prune -m"),
    ],
)
def test_a_word_that_is_no_command_is_one_sentence(word: str, sentence: str, capsys) -> None:
    assert cli.main([word]) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("advprune pr", "prune"),
        ("advprune prune -m pruner=hydra_", "hydra_filters"),
        ("advprune attack attack=autoatt", "autoattack"),
        ("advprune prune pruner.sco", "pruner.scope= pruner.score="),
    ],
)
def test_bash_completes_commands_and_options(typed: str, completed: str) -> None:
    """As readline calls it: = breaks words, and what stands before it is not completed again."""
    script = f"""
        advprune() {{ {sys.executable} -m advprune "$@"; }}
        eval "$(advprune completion bash)"
        COMP_LINE={shlex.quote(typed)} COMP_POINT={len(typed)}
        COMP_WORDS=({typed.replace("=", " = ")}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _advprune advprune; echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == completed, done.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from advprune import cli; cli.main(['--help']);"
        "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


def test_a_checkout_has_scripts_and_conf_beside_each_other() -> None:
    folder = installation.scripts()
    assert all((folder / f"{name}.py").is_file() for name in ("train", "prune", "attack"))
    assert (folder / "conf" / "prune.yaml").is_file()


def test_the_wheel_takes_them_along() -> None:
    taken = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    place = f"advprune/{installation.IN_WHEEL.name}"
    assert taken == {
        name: f"{place}/{name}" for name in ("train.py", "prune.py", "attack.py", "conf")
    }


def test_the_report_of_no_store_is_one_sentence(tmp_path: Path, capsys) -> None:
    assert cli.main(["report", "--store", str(tmp_path / "none")]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_the_wheel_runs_the_main_job_in_an_empty_folder_of_a_new_environment(
    tmp_path: Path,
) -> None:
    """Only the wheel is installed; its dependencies are this environment's, so no network is needed for them."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv is not None, "setup.sh installs uv"
    dist, env, empty = tmp_path / "dist", tmp_path / "env", tmp_path / "empty"
    subprocess.run([uv, "build", "--wheel", "-q", "-o", dist, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    (packages,) = env.glob("lib/python*/site-packages")
    ours = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{ours}\n")
    (wheel,) = dist.glob("*.whl")
    install = [uv, "pip", "install", "-q", "--offline", "--no-deps", "--python", env / "bin/python"]
    subprocess.run([*install, wheel], check=True)
    empty.mkdir()
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def advprune(*words: str) -> str:
        command = [env / "bin" / "advprune", *words]
        done = subprocess.run(command, cwd=empty, env=outside, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert advprune("--version") == f"advprune {PROJECT['project']['version']}\n"
    begun = time.monotonic()
    advprune("--help")
    assert time.monotonic() - begun < 2
    told = advprune("prune", "pruner=hydra", "ratio=0.99", "-m", *TINY)
    assert "made 5 stages" in told
    assert "made 0 stages" in advprune("prune", "pruner=hydra", "ratio=0.99", "-m", *TINY)
    attack = (*TINY, "attack=fgsm")
    advprune("attack", "pruner=hydra", "ratio=0.99", *(w for w in attack if w != "attack.steps=3"))
    assert "evaluations" in advprune("report")
    results = list(empty.glob("multirun/stages/dense/*/result.json"))
    assert '"command": "advprune prune pruner=hydra ratio=0.99' in results[0].read_text()
