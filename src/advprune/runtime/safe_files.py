"""Write a file whole or not at all, and read one as plain values of bounded size and depth.

It is written under another name beside its place, and then renamed. Nothing that a file says is
called.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

#: Libraries that write in between pass nothing through; a context belongs to one claim of a stage.
_FENCE: ContextVar[Callable[[Path], None] | None] = ContextVar("fence", default=None)
#: How the name of a file that is still being written ends; it starts with a dot, and a killed
#: writer leaves it.
PART = ".part"


@contextmanager
def fenced(fence: Callable[[Path], None]) -> Iterator[None]:
    """Inside, call ``fence(path)`` before a file takes its place; if it raises, the old stays."""
    token = _FENCE.set(fence)
    try:
        yield
    finally:
        _FENCE.reset(token)


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` in one step; a full disk or a kill leaves the old file.

    Processes that write the same file at once do not mix: each has a part of its own, and the last
    rename stays. A link in the place of either is replaced, and not written through.

    Args:
        path: of the file.
        content: bytes, or text written as UTF-8.
        durable: also flush it to the disk before it takes the place, so that a power cut leaves one
            of the two.

    Raises:
        OSError: with the path, if it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    fence = _FENCE.get()
    try:
        with suppress(FileNotFoundError):  # a killed writer's, or a link that somebody planted
            part.unlink()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if fence is not None:  # as late as can be: the process may have slept until now
            try:
                fence(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        part.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a read-only disk even this is refused
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


#: The largest file that is read, in bytes; the deepest nesting; the most values that a YAML file
#: may be expanded to.
LARGEST, DEEPEST, MOST = 1 << 28, 100, 1 << 20
#: libyaml's where it was built in: ten times as fast, the same answers. Neither makes anything but
#: plain values.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path) -> str:
    """Return the text of a regular file.

    Raises:
        ValueError: if it is none, or too large.
        OSError: if it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MiB, which no such file is")
    return content.decode()


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ValueError: if it is no JSON, or nested too deeply.
        OSError: if it cannot be read.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: as ``read_json``.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    _check_depth(value)
    return value


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    A text that refers to itself, or many times to a large part of itself, is refused.

    Raises:
        ValueError: if it is no YAML, nested too deeply, or would grow beyond ``MOST`` values.
    """
    try:
        _check_growth(text)
        return yaml.load(text, Loader=LOADER)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


TOO_DEEP = f"it is nested more than {DEEPEST} deep"


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        inner = (
            child.values() if isinstance(child, dict) else child
            for child in level
            if isinstance(child, dict | list)
        )
        level = [child for values in inner for child in values if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _check_growth(text: str) -> None:
    """Refuse a text that its aliases would blow up, before anything is made of it."""
    sizes: dict[str, int] = {}
    # of each open collection: its anchor, and how many values it has so far
    opened: list[list[Any]] = []
    for event in yaml.parse(text, Loader=LOADER):
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append([event.anchor, 1])
            if len(opened) > DEEPEST:
                raise ValueError(TOO_DEEP)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor, MOST)
        elif isinstance(event, yaml.ScalarEvent):
            anchor = event.anchor
        else:
            continue
        if size >= MOST:
            raise ValueError(f"it would grow beyond {MOST} values, or refers to itself")
        if anchor:
            sizes[anchor] = size
        if opened:
            opened[-1][1] += size
