"""Whatever a text says, reading it ends: in a tree that every reader can walk, or in a SyntaxError."""

import ast
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.source import DEEPEST, LARGEST, parse_source

# Each is short enough to be read, and ended a process that called itself level by level.
DEEP = {
    "calls": "x" + "()" * 600,
    "attributes": "x" + ".a" * 900,
    "subscripts": "x" + "[0]" * 700,
    "signs": "-" * 3000 + "1",
    "sum": "+".join(["a"] * 3000),
    "parentheses": "(" * 5000 + "1" + ")" * 5000,
    "lambdas": "lambda: " * 7000 + "1",
    "negations": "not " * 14_000 + "a",
    "powers": "2**" * 9000 + "1",
    "choices": "a if b else " * 4000 + "c",
}
BRANCHES = "if a: pass\n" + "elif b: pass\n" * 3000


@pytest.mark.parametrize("text", [*DEEP.values(), BRANCHES], ids=[*DEEP, "branches"])
def test_what_is_too_deep_is_a_syntax_error(text: str) -> None:
    with pytest.raises(SyntaxError, match="nested"):
        parse_source(text)


def test_the_line_of_what_is_too_deep_is_told() -> None:
    with pytest.raises(SyntaxError) as told:
        parse_source("a = 1\n\nb = x" + ".a" * 900)
    assert told.value.lineno == 3


def test_a_text_that_is_too_long_is_not_read() -> None:
    with pytest.raises(SyntaxError, match="70,000 characters, and at most 60,000"):
        parse_source("#" * 70_000)
    assert parse_source("#" * LARGEST).body == []


def test_a_null_byte_is_a_syntax_error() -> None:
    with pytest.raises(SyntaxError):
        parse_source("a = 1\0")


def test_a_wide_text_is_no_deep_one() -> None:
    assert parse_source("x = [" + "a, " * 15_000 + "]").body
    assert parse_source("x = " + " and ".join(["a"] * 5000)).body
    assert parse_source("+".join(["a"] * (DEEPEST - 10))).body


@given(
    st.recursive(
        st.sampled_from(["a", "1", "'s'"]),
        lambda inner: st.one_of(
            inner.map(lambda x: f"({x})"),
            inner.map(lambda x: f"-{x}"),
            inner.map(lambda x: f"f({x}, [{x}])"),
            inner.map(lambda x: f"({x}).b[{x}]()"),
            inner.map(lambda x: f"(lambda a: {x})"),
        ),
        max_leaves=50,
    ),
    st.integers(1, 130),
)
def test_what_was_read_can_be_written_and_compiled_from_deep_within_a_program(text: str, times: int) -> None:
    def write(calls: int) -> None:
        if calls:
            write(calls - 1)
            return
        try:
            tree = parse_source("-" * times + text)
        except SyntaxError:
            return
        assert ast.unparse(tree)
        compile(tree, "text", "exec")

    write(min(200, sys.getrecursionlimit() - 800))
