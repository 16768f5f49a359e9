"""What the suite promises of itself: any order of folders, and a checkout left as it was."""

import glob
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import checkout
import listings
import pytest

NAMES = [f"{number:02}" for number in range(8)]
WAYS: dict[str, Callable[[Path], list[str]]] = {
    "listdir": lambda folder: os.listdir(folder),  # noqa: PTH208
    "scandir": lambda folder: [entry.name for entry in os.scandir(folder)],
    "walk": lambda folder: next(os.walk(folder))[2],
    "glob": lambda folder: [Path(path).name for path in glob.glob(f"{folder}/*")],  # noqa: PTH207 - it is what is tried
    "Path.iterdir": lambda folder: [path.name for path in folder.iterdir()],
    "Path.glob": lambda folder: [path.name for path in folder.glob("*")],
    "Path.rglob": lambda folder: [path.name for path in folder.rglob("*")],
}


@pytest.mark.parametrize("way", WAYS)
def test_folders_are_listed_in_an_order_of_the_seeds(way: str, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).touch()
    orders = []
    for seed in (0, 1, 0):
        undo = listings.shuffle(seed)
        try:
            orders.append(WAYS[way](tmp_path))
        finally:
            undo()
    assert sorted(orders[0]) == sorted(orders[1]) == NAMES
    assert orders[0] == orders[2] != orders[1]
    assert NAMES not in orders


def test_what_is_left_in_a_checkout_is_named(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "kept").mkdir(parents=True)
    (root / "tracked").write_text("1")
    before = checkout.contents(root)
    assert checkout.changed(root, before) == []
    (root / ".pytest_cache").mkdir()
    assert checkout.changed(root, before) == []
    (root / "curves.json").touch()
    (root / "tracked").unlink()
    assert checkout.changed(root, before) == ["curves.json", "tracked"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_changed_file_of_the_checkout_is_named_once(tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path))
    (tmp_path / "docs").mkdir()
    for name in ("docs/one", "docs/two", ".gitignore"):
        (tmp_path / name).write_text("ignored\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "docs" / "one").write_text("changed before\n")
    before = checkout.contents(tmp_path)
    (tmp_path / "docs" / "ignored").touch()
    assert checkout.changed(tmp_path, before) == []
    (tmp_path / "docs" / "one").write_text("changed again\n")
    (tmp_path / "docs" / "two").write_text("drawn over\n")
    (tmp_path / "docs" / "new").touch()
    assert checkout.changed(tmp_path, before) == ["docs/new", "docs/one", "docs/two"]


def test_a_picture_is_drawn_beside_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docs import draw_result

    drawn: list[Path] = []
    monkeypatch.setattr(draw_result, "read", lambda paths: [])
    monkeypatch.setattr(draw_result, "draw", lambda rows, out: drawn.append(out))
    (tmp_path / "table.json").touch()
    monkeypatch.setattr("sys.argv", ["draw_result.py", str(tmp_path / "*.json")])
    draw_result.main()
    assert drawn == [tmp_path / "result.svg"]
    monkeypatch.setattr("sys.argv", ["draw_result.py", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match=r"no file is called .*none\.json"):
        draw_result.main()
