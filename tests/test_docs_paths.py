"""What the pages and the comments of conf/ name is there: files, modules, functions, options, headings, layers."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from test_layers import LAYERS

import advprune

SRC = ROOT / "src"
PACKAGE = SRC / "advprune"
CONF = ROOT / "conf"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
TEXTS = [*PAGES, *sorted(CONF.rglob("*.yaml"))]
#: What a page tells the reader to create; the tests of tests/test_docs.py do it.
CREATED = re.compile(r"^`([\w/.]+\.(?:py|yaml))`:\n\n```", re.MULTILINE)
TOP = "src|conf|tests|docs|benchmarks|objectives|attacks|pruners|surgery|quantizers|datasets|models|bounds"
TOP += "|launch|pipeline|stages|report|config|store|tracking|modules|distributed|runtime"
#: A path from the checkout's top or the package's; `file.py:name` is something that the file defines.
PATH = re.compile(
    rf"(?<![\w/.<>-])((?:{TOP})/(?:[\w.-]+/)*[\w.-]+\.(?:py|yaml|md|json|sh|svg))(?::(\w+))?"
)
DOTTED = re.compile(r"(?<![\w./])advprune((?:\.(?!sif|sqsh)\w+)+)")
TEST = re.compile(r"`(test_\w+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
CODE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"^((?:[a-z_]+\.)+[a-z_0-9]+)(?:=.*)?$")
MEMBER = re.compile(r"^([a-z]+(?:/[a-z]+)?)=([a-z_0-9,]+)$")
#: Files, whose names look like options.
FILE = re.compile(r"\.(py|json|safetensors|pt|onnx|npz)$")
#: A member that Hydra brings.
BUILTIN = "basic"


def name_of(path: Path) -> str:
    """The page's name in a test's id."""
    return str(path.relative_to(ROOT))


@cache
def defined(path: Path) -> set[str]:
    """What a module or a test file defines at its top, and the methods inside."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def created(text: str) -> set[str]:
    """The files that a page tells the reader to make."""
    return set(CREATED.findall(text))


def missing_paths(text: str) -> Iterator[str]:
    """Each path that is not there, and each name that its file does not define."""
    for path, name in PATH.findall(text):
        places = [base / path for base in (ROOT, PACKAGE) if (base / path).exists()]
        if not places and path not in created(text):
            yield path
        elif name and places and name not in defined(places[0]):
            yield f"{path}:{name}"


def missing_modules(text: str) -> Iterator[str]:
    """Each dotted name that leads to no module of the package, or to nothing in it."""
    modules = {path.removeprefix("src/") for path in created(text)}
    for dotted in DOTTED.findall(text):
        parts = dotted.strip(".").split(".")
        if parts[0] in advprune.__all__:
            continue
        for length in range(len(parts), 0, -1):
            inner = Path("advprune", *parts[:length])
            if str(inner.with_suffix(".py")) in modules:
                break
            file = (SRC / inner).with_suffix(".py")
            if file.exists():
                rest = parts[length:]
                if rest and rest[0] not in defined(file):
                    yield f"advprune{dotted}"
                break
            if length == len(parts) and (SRC / inner).is_dir():
                break
        else:
            yield f"advprune{dotted}"


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    assert [*missing_paths(text), *missing_modules(text)] == []


@cache
def all_tests() -> set[str]:
    """Every test's name."""
    return set().union(*(defined(path) for path in (ROOT / "tests").glob("*.py")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tests_that_are_named_exist(page: Path) -> None:
    assert [name for name in TEST.findall(page.read_text()) if name not in all_tests()] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {
        "#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name_of(page)}: {target} is not there"
        assert not anchor or anchor in anchors(file), f"{name_of(page)}: {target}{anchor}"


@cache
def option_words() -> set[str]:
    """All keys of the YAML files of conf/, at any depth, in comments too, and loggers' names."""
    word = re.compile(r"[a-z_0-9]+(?=:)")
    loggers = {path.stem for path in (CONF / "logger").glob("*.yaml")}
    return loggers.union(*(word.findall(path.read_text()) for path in CONF.rglob("*.yaml")))


def unknown_options(text: str) -> Iterator[str]:
    """Each ``group.option`` and ``group=member`` in code that conf/ has not."""
    if "| there | here |" in text:  # the first column of such a table is of other projects
        text = re.sub(r"^\| [^|]+ \|", "|", text, flags=re.MULTILINE)
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    groups |= {"training", "search", "finetune", "select"}
    new = {Path(path).stem for path in created(text)}
    for code in CODE.findall(text):
        for words in code.split():
            option, member = OPTION.match(words), MEMBER.match(words)
            if option and words.split(".")[0] in groups and not FILE.search(words):
                first, *rest = option[1].split(".")
                if first == "hydra" or (first == "objective" and rest[0] == "phases"):
                    continue
                if not all(word in option_words() or word.isdigit() for word in rest) and not new:
                    yield words
            if member and (CONF / member[1]).is_dir() and member[1] != "hydra":
                for name in member[2].split(","):
                    known = {*new, BUILTIN} | {p.stem for p in (CONF / member[1]).glob("*.yaml")}
                    if name not in known:
                        yield words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_and_members_that_are_named_exist(page: Path) -> None:
    assert list(unknown_options(page.read_text())) == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [page.name for page in PAGES if f"{page.name}" not in index] == []


def test_every_page_of_docs_is_in_the_sites_navigation() -> None:
    """The strict build of the site wants it; here it takes no MkDocs."""
    text = (ROOT / "mkdocs.yml").read_text()
    named = re.findall(r"^ +- (?:.*: )?(\S+\.md)$", text, re.MULTILINE)
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    pages |= {f"tutorials/{book.stem}.md" for book in ROOT.glob("docs/tutorials/*.ipynb")}
    made = {"introduction.md", "contributing.md", "changelog.md"}
    assert {name for name in named if not name.startswith("reference/")} == pages | made


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/how_it_works.md"])
def test_the_layers_that_a_page_draws_are_those_that_are_tested(page: str) -> None:
    """Every folder is there, from the top down in the order of tests/test_layers.py, and no other is."""
    text = (ROOT / page).read_text()
    below = text[text.index("ayers\n") :]
    drawn = re.findall(r"(?<![\w/])([a-z_]+)/(?![\w.])", below)
    order = list(dict.fromkeys(name for name in drawn if (PACKAGE / name).is_dir()))
    folders = [name for layer in LAYERS for name in layer if (PACKAGE / name).is_dir()]
    assert order == folders


def test_a_page_that_names_what_is_not_there_is_noticed() -> None:
    """The checks above see each kind of mistake."""
    text = "`stages/nothing.py`, `src/advprune/masks.py:nothing`, `docs/nothing.md`"
    assert len(list(missing_paths(text))) == 3
    assert len(list(missing_modules("advprune.stages.nothing.x and advprune.masks.nothing"))) == 2
    assert list(missing_modules("advprune.masks.top_k, python -m advprune.report, advprune")) == []
    text = "`attack=nothing` `trainer.nothing` `pruner=hydra` `trainer.precision=bf16`"
    assert list(unknown_options(text)) == ["attack=nothing", "trainer.nothing"]
