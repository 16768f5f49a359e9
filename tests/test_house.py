"""The sizes and types that ``python -m benchmarks.house`` measures stay within their bars."""

import ast

import pytest

from benchmarks import house


def test_lines_without_the_docstring_and_types_are_counted() -> None:
    text = '@cache\ndef f(self, a: Any, *b: int, c=1) -> int:\n    """Say.\n\n    More.\n    """\n    return a\n'
    (function,) = house.functions(ast.parse(text))
    assert house.lines_of(function) == 2
    assert list(house.types_of(function)) == ["Any", "Any", "int"]


def test_the_number_that_nine_of_ten_do_not_exceed() -> None:
    assert house.tenth_largest(list(range(1, 11))) == 9
    assert house.tenth_largest(list(range(1, 101))) == 90


@pytest.mark.parametrize("name", list(house.BARS))
def test_a_bar_is_held(name: str) -> None:
    assert house.measured(house.files())[name] <= house.BARS[name]
