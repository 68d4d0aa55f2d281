"""Text that came from outside (data, generated code, models), made harmless for whoever shows it.

Names of files, classes and columns, answers of models and messages of generated code are shown through one
function for each place: `one_line` in a terminal, a log or a prompt, `paragraph` in the message of an error,
`markdown_text` in Markdown, `one_line` and the escaping of the template in HTML. JSON and tables for programs keep
them exact.
"""

import re
from collections.abc import Iterable

# Printable by Python's rule, and drawn as nothing: two names could look alike, or carry what nobody sees.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
LINE_BREAKS = re.compile(r"[^\S ]+")  # with every white space but the plain one
NOT_OF_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that no byte of a file name becomes
# Each can open or close markup in CommonMark or in what GitHub adds to it, wherever it stands.
MARKUP = re.compile(
    r"[&<|`*\[\]\\~$#@{}]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is no emphasis
    r"|:(?=\S)|(?<=www)\."  # addresses become links without any brackets, :smile: a picture
    r"|^[-+=>]|^\d(?=\d*[.)])",  # rules, lists, headings and quotes, at the beginning alone
    re.IGNORECASE,
)


def plain(text: str, keep: str = "\n\t") -> str:
    """Leave out control characters, escape sequences and invisible marks, but for those in `keep`."""
    seen = text if text.isprintable() else "".join(c for c in text if c.isprintable() or c in keep)
    return INVISIBLE.sub("", seen)


def readable(text: str) -> str:
    """Write bytes of a file name that are no UTF-8 as `\\xfc`: such a name can be shown and stored.

    Halves of characters, which JSON can carry, become `\\ud800`.
    """
    if text.isascii():
        return text
    whole = NOT_OF_BYTES.sub(lambda half: f"\\u{ord(half[0]):04x}", text)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str, limit: int) -> str:
    """As `plain`, with every run of white space as one space, and at most `limit` characters."""
    line = " ".join(plain(" ".join(readable(text).split()), keep="").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def paragraph(text: str) -> str:
    """As `plain`, with no line breaks but those of a list of ours: a break and two spaces.

    So a name in a message cannot begin a line that looks like another message.
    """
    items = readable(text).split("\n  ")
    return "\n  ".join(plain(LINE_BREAKS.sub(" ", item), keep="").strip() for item in items)


def markdown_text(text: str, limit: int) -> str:
    """Write one line of Markdown that reads as `one_line` does: no markup, no HTML and no address is in it."""
    return MARKUP.sub(lambda mark: f"&#{ord(mark[0])};", one_line(text, limit))


def name_list(names: Iterable[str], most: int = 8) -> str:
    """Name each with at most 40 characters, and say how many more there are."""
    listed = [one_line(name, 40) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def duration(seconds: float) -> str:
    """Spell a time as a person would: `90 s`, `12 minutes`, `7 hours`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.3g} hours"
