"""Which changes of a picture leave its class alone, reasoned from the class names, the description and the image format.

An augmentation that can change the label is a defect, so every doubt counts against it: `changes` is never done, `unknown` is at most
proposed later as a change of its own, which the score then judges, and only `keeps` is part of a first pipeline.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Literal, NamedTuple

from agents.playbook import words
from schema.dataset import DatasetProfile
from schema.race import MirrorTest
from schema.team import Brief

Keeps = Literal["keeps", "unknown", "changes"]
SEVERITY: dict[Keeps, int] = {"keeps": 0, "unknown": 1, "changes": 2}


@dataclass(frozen=True, slots=True)
class Symmetry:
    """What each kind of change does to the label."""

    flip: Keeps  # mirror left to right
    vertical: Keeps  # mirror top to bottom, quarter turns
    turn: Keeps  # rotate by up to 15 degrees
    shift: Keeps  # move by some pixels
    scale: Keeps  # zoom, crop
    hide: Keeps  # cover a part
    colour: Keeps  # brightness, contrast, saturation
    because: tuple[str, ...]  # the sentences that decided


# Findings that speak of sides: neither a sentence nor a trained head makes these safe to mirror.
SIDED = {"orientation", "position", "hands", "traffic", "clocks", "flags", "documents"}

# Of a head's right answers, how many it gives to the mirrored images, too: overall, and in the class that is hurt most.
KEPT_IF_SAME, LEAST_KEPT_IF_SAME = 0.95, 0.7
KEPT_IF_CHANGED, LEAST_KEPT_IF_CHANGED = 0.8, 0.35
ENOUGH_RIGHT = 60  # images

# What each finding says about the changes it knows about; the most severe finding wins.
Effects = dict[str, Keeps]
NO_HINT: Effects = {
    "flip": "unknown",
    "vertical": "unknown",
    "turn": "unknown",
    "shift": "keeps",
    "scale": "unknown",
    "hide": "unknown",
    "colour": "unknown",
}
PHOTOGRAPHS: Effects = {**dict.fromkeys(NO_HINT, "keeps"), "vertical": "unknown"}
FROM_ABOVE: Effects = {**dict.fromkeys(NO_HINT, "keeps"), "colour": "unknown"}
ORIENTED: Effects = {"flip": "changes", "vertical": "changes", "turn": "changes", "hide": "unknown"}
SYMBOLS: Effects = {"flip": "changes", "vertical": "changes", "turn": "keeps", "hide": "changes", "scale": "unknown"}
FINDINGS: dict[str, tuple[Effects, str]] = {
    "orientation": (ORIENTED, "the classes speak of an orientation or a direction"),
    "characters": (SYMBOLS, "the classes look like letters, digits or codes, which a mirror turns into something else"),
    "documents": (SYMBOLS, "the pictures hold writing, which a mirror makes unreadable"),
    "hands": (
        {"flip": "changes", "vertical": "changes", "scale": "unknown"},
        "a mirrored hand sign can be another sign",
    ),
    "traffic": (
        {"flip": "changes", "vertical": "changes", "colour": "unknown"},
        "traffic signs point to a side, and some are each other's mirror image",
    ),
    "clocks": (ORIENTED, "a mirrored or turned dial shows another value"),
    "flags": ({**SYMBOLS, "colour": "changes"}, "some flags are mirror images or recolourings of each other"),
    "position": (
        {"flip": "changes", "vertical": "changes", "shift": "changes", "scale": "changes", "hide": "unknown"},
        "the classes speak of a place in the picture",
    ),
    "size": ({"scale": "changes"}, "the classes speak of a size or a distance"),
    "count": (
        {"hide": "changes", "scale": "changes", "shift": "unknown"},
        "the classes count things, and hiding one changes the count",
    ),
    "colour": ({"colour": "changes"}, "the classes speak of colours"),
    "light": ({"colour": "unknown"}, "the classes speak of light or weather, which brightness could imitate"),
    "medical": (
        {"flip": "unknown", "vertical": "unknown", "colour": "unknown", "hide": "unknown"},
        "the body is not its own mirror image",
    ),
    "drawn": (
        {"flip": "changes", "vertical": "changes", "hide": "changes"},
        "small grey pictures whose class names tell nothing may well be symbols",
    ),
    "user": ({"flip": "changes", "vertical": "changes"}, "the description says not to mirror"),
}


def symmetry(brief: Brief) -> Symmetry:
    """What may be done to these pictures without changing what they show."""
    profile = brief.profile
    mirror = _measured(brief.race.mirror) if brief.race and brief.race.mirror else None
    return _symmetry(
        tuple(profile.classes), brief.description, profile.name, mirror, small_and_grey=_small_and_grey(profile)
    )


class Measured(NamedTuple):
    """What a trained head says of mirrored images: before what words let one guess, and after what the person says."""

    flip: Keeps
    reason: str


def _measured(test: MirrorTest) -> Measured | None:
    """None if the head knows too little, or the answer is neither."""
    if test.right < max(ENOUGH_RIGHT, test.images / 4):
        return None
    kept = test.right_mirrored / test.right
    reason = f"a trained head knows {100 * kept:.0f} % as many of the mirrored images as of the others"
    if kept < KEPT_IF_CHANGED or test.least_kept < LEAST_KEPT_IF_CHANGED:
        return Measured("changes", reason)
    if kept >= KEPT_IF_SAME and test.least_kept >= LEAST_KEPT_IF_SAME:
        return Measured("keeps", reason)
    return None


def _small_and_grey(profile: DatasetProfile) -> bool:
    return profile.channels == 1 and max(profile.height, profile.width) <= 64


@cache
def _symmetry(
    classes: tuple[str, ...], description: str, name: str, mirror: Measured | None, *, small_and_grey: bool
) -> Symmetry:
    tokens = [_tokens(text) for text in classes]
    prose, title = _prose(description), _tokens(name)
    natural = _share(tokens, words.NATURAL) >= 0.5 or bool(re.search(PHOTO, prose))
    found = [*_in_classes(tokens, classes), *_in_prose(prose)]
    if not natural and _title_says_characters(title):
        found.append("characters")
    above = _from_above(tokens, prose, title)
    if re.search(ANY_ORIENTATION, prose) and not ({"orientation", "position"} & set(found)):
        above = True
    if not (natural or above or found) and small_and_grey:
        found.append("drawn")
    told = _combined(dict.fromkeys(found), natural=natural, above=above)
    if SIDED & set(found):
        return told if mirror is None or mirror.flip == "keeps" else replace(told, flip="changes")
    if "user" in found:
        return told
    if re.search(MIRROR_OK, prose):
        return replace(told, flip="keeps", because=("the description says that mirroring is fine",))
    return replace(told, flip=mirror.flip, because=(mirror.reason,)) if mirror else told


def _combined(found: Collection[str], *, natural: bool, above: bool) -> Symmetry:
    base, because = dict(NO_HINT), ["the class names tell nothing about mirror images"]
    if natural:
        base, because = dict(PHOTOGRAPHS), ["the classes name things in photographs, which look the same mirrored"]
    if above:
        base, because = dict(FROM_ABOVE), ["pictures from above or through a microscope have no up or down"]
    reasons = []
    for finding in found:
        effects, reason = FINDINGS[finding]
        reasons.append(reason)
        for change, effect in effects.items():
            # Letters may turn a little, whatever else is unknown about them; nothing else is ever made safer by a finding.
            if SEVERITY[effect] > SEVERITY[base[change]] or (effect == "keeps" and base[change] == "unknown"):
                base[change] = effect
    if "orientation" in found or "clocks" in found:
        base["turn"] = "changes"
    return Symmetry(**base, because=tuple(reasons or because))


# Class names


def _tokens(text: str) -> frozenset[str]:
    """Lower-case words and numbers of a name: `TurnLeft_30deg` -> turn, left, 30, deg; plurals also as singulars."""
    plain = unicodedata.normalize("NFKC", text)
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]|\d+", plain)
    lowered = {part.lower() for part in parts} | {plain.lower().replace("-", "").replace(" ", "")}
    lowered |= {word.lower() for word in re.findall(r"[^\W_]+", plain)}
    return frozenset(lowered | {word[:-1] for word in lowered if len(word) > 3 and word.endswith("s")})


def _share(tokens: list[frozenset[str]], lexicon: frozenset[str]) -> float:
    return sum(bool(one & lexicon) for one in tokens) / len(tokens)


def _speaks(tokens: list[frozenset[str]], lexicon: frozenset[str], share: float, distinct: int = 1) -> bool:
    """At least that share of the classes uses the lexicon, with that many different words."""
    used = frozenset().union(*tokens) & lexicon
    return len(used) >= distinct and _share(tokens, lexicon) >= share


def _in_classes(tokens: list[frozenset[str]], classes: tuple[str, ...]) -> list[str]:
    mentioned = frozenset().union(*tokens)
    opposites = any({one, other} <= mentioned for one, other in words.OPPOSITES)
    says = {
        "orientation": opposites
        or _speaks(tokens, words.ORIENTATION, 0.1)
        or _speaks(tokens, words.SIDES, 0.2)
        or _angles(classes),
        "characters": _characters(tokens, classes),
        "documents": _speaks(tokens, words.DOCUMENTS, 0.3),
        "hands": _speaks(tokens, words.HANDS, 0.2),
        "traffic": _speaks(tokens, words.TRAFFIC, 0.2),
        "clocks": _speaks(tokens, words.CLOCKS, 0.3) or _mostly(classes, r"\d{1,2}[:_h.-]\d{2}"),
        "flags": _speaks(tokens, words.FLAGS, 0.3),
        "position": _speaks(tokens, words.POSITION, 0.3) or {"top", "bottom"} <= mentioned,
        "size": _speaks(tokens, words.SIZES, 0.2, distinct=2) or _share(tokens, frozenset({"size", "scale"})) >= 0.3,
        "count": _speaks(tokens, words.COUNTS, 0.3) or _share(tokens, words.NUMBER_WORDS) >= 0.5,
        "colour": _speaks(tokens, words.COLOURS, 0.2, distinct=2),
        "light": _speaks(tokens, words.LIGHT, 0.2, distinct=2),
        "medical": _speaks(tokens, words.MEDICAL, 0.2),
    }
    return [finding for finding, said in says.items() if said]


def _characters(tokens: list[frozenset[str]], classes: tuple[str, ...]) -> bool:
    if _speaks(tokens, words.CHARACTERS, 0.2) or _share(tokens, words.NUMBER_WORDS) >= 0.5:
        return True
    if _mostly(classes, r"[^\W\d_][\u0300-\u036f]?") or _code_points(classes):
        return True
    if {re.sub(r"^0+(?=\d)", "", text) for text in classes} >= set("123456789") and len(classes) <= 10:
        return True
    if _share(tokens, words.NATURAL) >= 0.5:
        return False
    short = _mostly(classes, r"[\W\d_]*[^\W\d_]{1,4}[\W\d_]*", share=0.6)
    return _share(tokens, words.LETTER_NAMES) >= 0.5 or (short and len(classes) >= 15)


def _code_points(classes: tuple[str, ...]) -> bool:
    """Characters named by their code: `U+3042`, `0x41`, or the bare `4a`, `30` of NIST."""
    bare = _mostly(classes, r"(?i)[0-9a-f]{2}") and any(re.fullmatch(r"(?i)\d[a-f]", text) for text in classes)
    return bare or _mostly(classes, r"(?i)(u\+?|0x|\\u)[0-9a-f]{2,6}")


def _mostly(classes: tuple[str, ...], pattern: str, *, share: float = 0.5) -> bool:
    """At least that share of the names matches as a whole."""
    return sum(bool(re.fullmatch(pattern, text.strip())) for text in classes) >= share * len(classes)


def _angles(classes: tuple[str, ...]) -> bool:
    """Numbers in equal steps that a full or half turn is divided into: 0, 90, 180, 270."""
    found = [re.fullmatch(r"\D*(\d{1,3})\D*", text) for text in classes]
    if len(classes) < 3 or not all(found):
        return False
    values = sorted(int(match[1]) for match in found if match)
    steps = {b - a for a, b in pairwise(values)}
    step = min(steps)
    return len(steps) == 1 and step >= 5 and 180 % step == 0 and values[-1] <= 360 and values[0] % step == 0


def _title_says_characters(title: frozenset[str]) -> bool:
    spoken = words.CHARACTER_SETS | words.CHARACTERS
    return bool(title & spoken) and "fashion" not in title and not any(word.endswith("amnist") for word in title)


def _from_above(tokens: list[frozenset[str]], prose: str, title: frozenset[str]) -> bool:
    return _share(tokens, words.OVERHEAD) >= 0.3 or bool(title & words.OVERHEAD) or bool(re.search(ABOVE, prose))


# The person's own description

ANY = r"(?:different|various|varying|varied|many|any|all|multiple|several|random|arbitrary|every)"
PHOTO = r"\b(?:photo|photos|photograph|photographs|photographic|photography|natural images?|snapshots?|camera)\b"
ABOVE = r"\b(?:satellite|aerial|overhead|orthophoto\w*|drone|histolog\w*|histopatholog\w*|patholog\w*|microscop\w*|micrograph\w*|dermoscop\w*|telescope|plankton)\b"
ANY_ORIENTATION = (
    r"(?:(?:orientation|rotation|direction)s?\b[^.;]{0,30}\b(?:not matter|irrelevant|arbitrary|random|meaningless|no meaning)"
    r"|rotation(?:ally)?[ -]invariant|no (?:natural |canonical )?(?:orientation|up)\b)"
)
MIRROR_OK = r"(?:flip\w*|mirror\w*)[^.;]{0,40}\b(?:is|are) (?:fine|ok|okay|allowed|harmless|safe|the same)|\b(?:left-right|mirror) symmetric"
NO_MIRROR = r"\b(?:not|n't|never|no|without)\b[^.;]{0,25}\b(?:flip|mirror)\w*|mirror\w*[^.;]{0,40}\b(?:different|another|other|change)\w*"
SPOKEN = {
    "orientation": (
        r"\b(?:orientations?|rotations?|rotated|angles?|upside|heading|clockwise|counter-?clockwise|facing|tilt\w*|direction(?:s|al)?|arrows?)\b"
        r"|\bleft\b[^.;]*\bright\b|\bright\b[^.;]*\bleft\b|\bup\b[^.;]{0,12}\bdown\b|\bhorizontal\b[^.;]*\bvertical\b|\bwhich way\b"
    ),
    "characters": r"\b(?:letters?|digits?|alphabets?|characters?|glyphs?|numerals?|handwrit\w*|hand-written|kanji|hiragana|katakana|hangul|cyrillic|house numbers?|licen[cs]e plates?|symbols?|ocr)\b",
    "documents": r"\b(?:documents?|invoices?|receipts?|screenshots?|scanned|banknotes?)\b",
    "hands": r"\b(?:sign language|finger ?spelling|gestures?|hand signs?|asl)\b",
    "traffic": r"\b(?:traffic|road|street) signs?\b",
    "clocks": r"\b(?:clocks?|gauges?|dials?|time of day shown)\b",
    "flags": r"\bflags\b",
    "position": r"\b(?:positions?|quadrants?|where in the (?:image|picture)|locations? of)\b",
    "size": r"\b(?:sizes? of|how (?:big|large|far)|distance to)\b",
    "count": r"\b(?:how many|number of|counts? of|counting)\b",
    "colour": r"\b(?:by (?:their )?colou?rs?|colou?rs? (?:of|matters?|decides?|is important|are important)|which colou?r|ripeness|ripe)\b",
    "medical": r"\b(?:x-?rays?|radiograph\w*|ct scans?|mri|ultrasound|fundus|mammogra\w*)\b",
    "user": NO_MIRROR,
}


def _prose(description: str) -> str:
    """The description without the mentions that say nothing about the label: `photographed from different angles`."""
    text = description.lower().replace("’", "'")
    varied = rf"\b{ANY} (?:\w+ )?(?:orientation|rotation|angle|direction|position|size|pose|viewpoint)s?\b"
    return re.sub(varied, " ", text)


def _in_prose(prose: str) -> list[str]:
    irrelevant = bool(re.search(ANY_ORIENTATION, prose))
    return [
        finding
        for finding, pattern in SPOKEN.items()
        if re.search(pattern, prose) and not (finding == "orientation" and irrelevant)
    ]
