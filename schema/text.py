"""Text that came from outside (data, generated code, models), made harmless for terminals, logs and prompts."""

from collections.abc import Iterable


def plain(text: str, keep: str = "\n\t") -> str:
    """Without control characters, escape sequences and invisible marks, but for those in `keep`."""
    return "".join(c for c in text if c.isprintable() or c in keep)


def readable(text: str) -> str:
    """Write bytes of a file name that are no UTF-8 as `\\xfc`: such a name can be shown and stored."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str, limit: int) -> str:
    """As `plain`, with every run of white space as one space, and at most `limit` characters."""
    line = plain(" ".join(readable(text).split()), keep="")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def name_list(names: Iterable[str], most: int = 8) -> str:
    """Names for a message: each at most 40 characters, and how many more there are."""
    listed = [one_line(name, 40) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
