"""What a model's text holds: code, a judgement, a line. Read forgivingly, because a usable answer in an odd dress is still one."""

import ast
import json
import re
from typing import Any, NamedTuple

from agents.llm.split import FACES, faces_in, own_part, split
from schema.pipeline import COMPONENTS, Component
from schema.source import parse_source
from schema.text import plain

THOUGHTS = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
THOUGHT_BEGINS = re.compile(r"<(think|thinking|thought|reasoning)>", re.IGNORECASE)
THOUGHT_ENDS = re.compile(r"^.*</(think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
PYTHON = {"python", "py", "python3", ""}
MOST_TRIES = 300  # to read an object from a brace on: each may look at all of the text
STARTS = re.compile(r"^(?:import |from \w|def |class |@|#|[A-Za-z_]\w* *[:=])", re.MULTILINE)


class Unusable(Exception):
    """Why an answer cannot be used, in words for the model that gave it; `text` is the answer, where it was the last."""

    def __init__(self, problem: str, text: str = "") -> None:
        super().__init__(problem)
        self.text = text


class Block(NamedTuple):
    language: str
    text: str


def without_thoughts(text: str) -> str:
    """What a model thinks aloud is no part of its answer, also where a server has swallowed the opening tag or the answer ends in a thought."""
    text = THOUGHTS.sub("", text)
    text = THOUGHT_ENDS.sub("", text, count=1)
    begins = THOUGHT_BEGINS.search(text)
    return text[: begins.start()] if begins else text


def blocks(text: str) -> list[Block]:
    """Fenced code, in its order; the last one may lack its end."""
    return [Block(match[2].lower(), match[3]) for match in FENCE.finditer(text)]


def code_of(text: str, component: Component) -> str:
    """The source of one component. Raises Unusable. What else the answer holds, other components among it, is left out."""
    text = without_thoughts(text)
    fenced = [block.text for block in blocks(text) if block.language in PYTHON]
    joined = "\n\n".join(fenced)
    for source in (*reversed(fenced), joined, *_bare(text)):
        if component in faces_in(source):
            return own_part(source, component).strip("\n") + "\n"
    raise Unusable(_missing(text, fenced, component))


def components_of(text: str) -> dict[Component, str]:
    """Of a whole pipeline, in one block or in several: what is there."""
    text = without_thoughts(text)
    fenced = [block.text for block in blocks(text) if block.language in PYTHON]
    found: dict[Component, str] = {}
    for source in (*fenced, *_bare(text)):
        found = split_or_whole(source) | found
    return {component: found[component] for component in COMPONENTS if component in found}


def split_or_whole(source: str) -> dict[Component, str]:
    faces = faces_in(source)
    return {faces[0]: source.strip("\n") + "\n"} if len(faces) == 1 else split(source)


def prose_of(text: str) -> str:
    """The answer without its code."""
    return plain(re.sub(r"\n{3,}", "\n\n", FENCE.sub("\n", without_thoughts(text)))).strip()


def _bare(text: str) -> list[str]:
    """Code without a fence: from a line that looks like code to the end, or to where it stops being Python."""
    if blocks(text):
        return []
    for start in list(STARTS.finditer(text))[:20]:
        lines = text[start.start() :].split("\n")
        for end in (len(lines), *(number for number in range(len(lines) - 1, 0, -1) if not lines[number].strip())):
            source = "\n".join(lines[:end])
            if faces_in(source):
                return [source]
    return []


def _missing(text: str, fenced: list[str], component: Component) -> str:
    expected = f"Expected: the whole {component} component, which defines `{FACES[component]}`, in one ```python block."
    if not text.strip():
        return f"The answer was empty. {expected}"
    if not fenced:
        return f"The answer held no block of code. {expected}"
    others = [FACES[other] for source in fenced for other in faces_in(source)]
    if others:
        return f"The answer defines `{others[0]}`, which is another engineer's. {expected}"
    for source in fenced:
        try:
            parse_source(source)
        except SyntaxError as error:
            line = error.lineno
            shown = source.split("\n")[line - 1].strip()[:120] if line and line <= source.count("\n") + 1 else ""
            return f"The code is no Python: {error.msg} in line {line}: {shown}. {expected}"
    return f"The code does not define `{FACES[component]}` at its top level. {expected}"


def judgement_of(text: str, field: str) -> dict[str, Any]:
    """The last JSON object of the text that has `field`. Raises Unusable."""
    text = without_thoughts(text)
    found = [one for one in _objects(text) if field in one]
    if found:
        return found[-1]
    if not text.strip():
        raise Unusable("The answer was empty. Expected: one JSON object.")
    raise Unusable(f"The answer held no JSON object with {field!r}. Expected: one JSON object, and nothing around it.")


def _objects(text: str) -> list[dict[str, Any]]:
    found, at, tries = [], text.find("{"), 0
    while at >= 0 and tries < MOST_TRIES:
        tries += 1
        value, end = _object_at(text, at)
        if value is not None:
            found.append(value)
        at = text.find("{", end)
    return found


def _object_at(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    """The object that begins here and where it ends, in JSON or as Python would write it; tolerates line breaks in strings and commas at ends."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
        return (value if isinstance(value, dict) else None), end
    except (ValueError, RecursionError):
        pass
    end = text.rfind("}") + 1
    raw = re.sub(r",\s*([}\]])", r"\1", text[start:end])
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(raw)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return value, end
    return None, start + 1
