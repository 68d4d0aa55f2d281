"""A name, a message, an answer of a model: whatever it holds, it is shown as one line and does nothing."""

import json
import re
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import Environment
from markdown_it import MarkdownIt

from schema.text import markdown_text, name_list, one_line, plain, readable

HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGVsbG8=\x07",
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b2J",
    "a\rb\nc\x0bd\x0ce\x85f\u2028g\u2029h",
    "photo\u202egpj.exe",
    "\u2066a\u2069\u200b\u200d\ufeff\u00ad\u2800\u3164\U000e0041\ufe0f",
    "[link=http://evil.example]x[/link]",
    "[/]",
    "[red]x[/red] :warning:",
    "\\[red]",
    "# heading",
    "a\n\n# heading",
    "- item",
    "+ item",
    "1. item",
    "123456789) item",
    "> quote",
    "---",
    "===",
    "```\ncode",
    "~~~",
    "a | b | c",
    "a \\| b \\",
    "`code` ``more``",
    "*a* **b** _c_ __d__ ~~e~~ a_b_c",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><script>alert(1)</script>",
    "<!-- ",
    "<http://evil.example>",
    "![x](http://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "](javascript:alert(1))",
    "[x]: http://evil.example",
    "http://evil.example www.evil.example a@evil.example @user #1 $x$ {{7*7}} :smile:",
    "&lt;b&gt; &amp; &copy; &#60;",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)",
    "    indented",
    "caf\udce9 \ud800 \udfff",
    "",
    " ",
)
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=[])),  # surrogates, too
    st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.lists(st.sampled_from([*HOSTILE, *"\\`*_{}[]()#+-.!|<>~:=&@$\"' \n\t0aW"]), max_size=12).map("".join),
)
LIMIT = 200
# What stands around a name in a report: a paragraph, a list, a heading, a cell, emphasis.
PLACES = ("{}", "{}: 3 classes", "- {}: its reason", "# {}", "| class | n |\n|---|---|\n| {} | 3 |\n", "**{}**")
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def each_hostile(test):  # type: ignore[no-untyped-def]
    for name in HOSTILE:
        test = example(name)(test)
    return test


def kinds(text: str) -> list[str]:
    """The structure of a rendered text, without the text itself."""
    found = []
    for block in MARKDOWN.parse(text):
        found.append(block.type)
        found += [inline.type for inline in block.children or () if inline.type not in {"text", "text_special"}]
    return found


def texts(text: str) -> list[str]:
    return [
        "".join(inline.content for inline in block.children or ())
        for block in MARKDOWN.parse(text)
        if block.type == "inline"
    ]


@each_hostile
@given(names)
def test_a_terminal_gets_one_line_of_visible_text(name: str) -> None:
    line = one_line(name, LIMIT)
    assert len(line.splitlines()) <= 1
    assert len(line) <= LIMIT
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in line)
    assert line == line.strip()
    line.encode("utf-8")


@each_hostile
@given(names)
def test_a_line_that_is_shown_again_stays_as_it_is(name: str) -> None:
    line = one_line(name, LIMIT)
    assert one_line(line, LIMIT) == line


@each_hostile
@given(names)
def test_text_of_several_lines_keeps_them_and_nothing_else_that_a_terminal_obeys(name: str) -> None:
    text = plain(readable(name))
    assert all(c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


@each_hostile
@given(names)
def test_every_name_can_be_stored_as_utf8_and_as_json(name: str) -> None:
    assert json.loads(json.dumps(readable(name), ensure_ascii=False).encode("utf-8")) == readable(name)


def test_bytes_that_are_no_text_and_halves_of_characters_are_told() -> None:
    assert readable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\\xe9"
    assert readable("half \ud800 of one") == "half \\ud800 of one"


@pytest.mark.parametrize("place", PLACES)
def test_markdown_of_a_name_has_the_structure_of_a_harmless_one(place: str) -> None:
    @each_hostile
    @given(names)
    def same(name: str) -> None:
        shown = markdown_text(name, LIMIT)
        if shown:
            assert kinds(place.format(shown)) == kinds(place.format("name"))

    same()


@each_hostile
@given(names)
def test_markdown_of_a_name_reads_as_the_name(name: str) -> None:
    for place in ("{}", "| class | n |\n|---|---|\n| {} | 3 |\n"):
        shown = markdown_text(name, LIMIT)
        if shown:
            assert one_line(name, LIMIT) in texts(place.format(shown))


@each_hostile
@given(names)
def test_markdown_of_a_name_holds_no_address_that_github_would_link(name: str) -> None:
    shown = markdown_text(name, LIMIT)
    assert not re.search(r"://|www\.|mailto:|@|(?<!&)#\d", shown, re.IGNORECASE)


def test_markdown_of_an_everyday_name_stays_readable() -> None:
    for name in ("cat", "7", "dog/IMG_2041.jpg", "tabby cat (old)", "is truncated (12 of 40 bytes)", "Türkçe 猫"):
        assert markdown_text(name, 60) == name


@each_hostile
@given(names)
def test_html_of_a_name_has_no_tag_or_attribute_of_it(name: str) -> None:
    page = '<p title="{{ name }}">{{ name }}</p><img alt="{{ name }}">'
    html = Environment(autoescape=True).from_string(page).render(name=one_line(name, LIMIT))
    found: list[tuple[str, list[str]]] = []
    said: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, [key for key, _ in attrs]))

        def handle_data(self, data: str) -> None:
            said.append(data)

        def handle_comment(self, data: str) -> None:
            raise AssertionError(data)

    reader = Reader()
    reader.feed(html)
    reader.close()
    assert found == [("p", ["title"]), ("img", ["alt"])]
    assert "".join(said) == one_line(name, LIMIT)


def test_a_list_of_names_is_one_line() -> None:
    assert name_list(["a\nb", "\x1b[31mred", "c"], 2) == "a b, [31mred and 1 more"
