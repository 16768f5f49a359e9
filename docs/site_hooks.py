"""Add to the site what Markdown in docs/ cannot hold: called by MkDocs, as mkdocs.yml says.

* The pages of the checkout's top (README.md and others), so that links to them stay inside.
* The tutorials: each notebook as a page, and the notebook itself to download.
* A page for each group of methods: the docstring of what every YAML of ``conf/`` names.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Files that have another place in the site: those outside docs/, and one whose name a page takes.
MOVED = {
    "docs/leaderboard/index.html": "leaderboard/report.html",
    "README.md": "introduction.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.txt",
}
GROUPS = {
    "pruner": "Pruners and criteria",
    "attack": "Attacks and certifiers",
    "objective": "Objectives of training",
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")
#: The class or function that a member is: of a pruner its criterion or process.
TARGET = re.compile(r"^(?:(?:criterion|process|attack):\n  )?_target_: (\S+)$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for path, page in MOVED.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            text = "\n\n".join(as_markdown(json.loads(file.content_string)))
            files.append(File.generated(config, f"{file.src_uri[:-6]}.md", content=text))
    for group, title in GROUPS.items():
        text = "\n\n".join([f"# {title}", *reference(group)])
        files.append(File.generated(config, f"reference/{group}.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Let links lead where the files are in the site."""
    place = page.file.src_uri
    original = {made: path for path, made in MOVED.items()}.get(place, f"docs/{place}")
    return LINK.sub(lambda link: moved(link[1], original, place), markdown)


def moved(link: str, original: str, place: str) -> str:
    """The link of a page that is ``original`` in the checkout and ``place`` in the site."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(original), link))
    if target in MOVED:
        target = f"docs/{MOVED[target]}"
    if target.endswith(".ipynb"):
        target = f"{target[:-6]}.md"
    folder = posixpath.dirname(f"docs/{place}")
    return posixpath.relpath(target, folder)


def as_markdown(notebook: dict[str, Any]) -> Iterator[str]:
    """Each cell of a notebook, and the text that it printed."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for output in cell.get("outputs", ()):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            yield f"```text\n{''.join(text).rstrip()}\n```"


def reference(group: str) -> Iterator[str]:
    """A section for each member of a group, inner groups too: its first lines, its docstring."""
    described = set[str]()
    for path in sorted((ROOT / "conf" / group).rglob("*.yaml")):
        if path.stem in ("base", "frame"):  # options that all members have
            continue
        text = path.read_text()
        targets = TARGET.findall(text)
        option = path.parent.relative_to(ROOT / "conf")
        comment = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        yield f"## `{option}={path.stem}`"
        yield "\n".join(line for line in comment if not line.startswith("python "))
        for target in targets:
            if target not in described:
                yield f"::: {target}\n    options: {{heading_level: 3}}"
            described.add(target)
