"""Folders, files and classes whose names attack whoever reads them: through the commands, to every output."""

import csv
import io
import json
import os
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from markdown_it import MarkdownIt
from PIL import Image
from typer.testing import CliRunner

import improve.cli  # noqa: F401 - its commands become the app's
from checkpoints.store import open_store
from graph.run import run
from improve.api import load
from improve.app import app
from improve.data_commands import shell_word
from improve.predict import Prediction
from improve.review import show_question
from improve.show import ledger_table
from improve.terminal import open_console
from improve.view import Lines, Screen, watching
from nodes.report_text import report_text
from nodes.services import Services
from schema.errors import DatasetError, ImproveError, SettingsError
from schema.events import (
    ComponentWritten,
    Designed,
    Event,
    FaultFound,
    Finished,
    ModelWaits,
    Proposed,
    RunStarted,
    Settled,
    WeightsFetched,
)
from schema.job import JobSpec
from schema.pipeline import Fault
from schema.run import Change
from schema.settings import Settings
from schema.team import LedgerRow, Proposal, ReviewAsked
from schema.text import one_line, readable
from tests.graph.test_resume import Jobs
from tests.schema.test_text import HOSTILE, each_hostile, names
from tests.scripted import ScriptedTeam

HEADING = "cat\n# heading\x1b[31m"
TAG = "<img src=x onerror=alert(1)>"
MARKUP = "[red]a|b`c`[x](javascript:alert(1))"
BYTES = os.fsdecode(b"caf\xe9")
LONG = "x" * 255
CLASSES = (HEADING, TAG, MARKUP, BYTES, LONG)
READ_AS = {HEADING.replace("\n", " "), TAG, MARKUP, "caf\\xe9", LONG}  # white space in the name of a class is one space
COPY = "\x1b]8;;http:evil\x07same\r[bold]|.png"
BROKEN = "](javascript:alert(1))\x1b]52;c;aGk=\x07\u202e\n\n# owned <script>|`.png"
NOTES = "notes\x1b[2J\n- item.<b>x"


def photo(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((16, 16), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five classes of twelve images, a copy with another label, a broken file, and what is no image."""
    root = tmp_path / "photos\x1b[31m\n# <b>set"
    for number, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for i in range(12):
            photo(100 * number + i).save(root / label / f"{i:02d}.png")
    photo(0).save(root / TAG / COPY)
    (root / TAG / BROKEN).write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / NOTES).write_text("mine", encoding="utf-8")
    return root


class FiveClasses(Jobs):
    """Instant jobs with predictions for five classes."""

    def start(self, directory: Path, spec: JobSpec, /) -> None:
        super().start(directory, spec)
        for split, array in spec.heldout.items():
            rows = self.random.dirichlet(np.ones(len(CLASSES)), len(np.load(array, mmap_mode="r")))
            np.save(directory / "work" / f"{split}.npy", rows.astype(np.float32))


@pytest.fixture
def finished(photos: Path) -> Path:
    """A run on these images with instant jobs, and weights that are none."""
    settings = Settings(
        dataset=str(photos), iterations=1, device="cpu", folds=1, until_budget=True, describe="\x1b[31mleaves\u202e"
    )
    team = ScriptedTeam([("training", ["raise ValueError('\x1b[31m# x <img>')"])])
    run(settings, name="r", services=Services(team=lambda *_: team, jobs=FiveClasses()))
    load("r").weights.write_bytes(b"weights")
    return photos


def told(*words: str) -> str:
    """What a command writes, errors too."""
    done = CliRunner().invoke(app, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.output


def assert_harmless(text: str) -> None:
    """A terminal obeys none of it, and no name has begun a line of its own."""
    assert all(c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text), repr(text)
    assert not re.search(r"(?m)^(# (heading|owned|<b>)|- item)", text), text


def tags_of(page: str) -> tuple[set[str], set[str]]:
    tags: set[str] = set()
    attributes: set[str] = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.add(tag)
            attributes.update(key for key, _ in attrs)

    Reader().feed(page)
    return tags, attributes


def assert_harmless_markdown(text: str) -> None:
    """No element, link or image, and no heading but ours."""
    for block in MarkdownIt("commonmark").enable("table").parse(text):
        kinds = {block.type, *(inline.type for inline in block.children or ())}
        assert not kinds & {"html_block", "html_inline", "link_open", "image", "fence"}, (kinds, block)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs"} or c == "\n" for c in text)
    assert not {"heading", "owned"} & {
        line.lstrip("# ").split(" ")[0] for line in text.splitlines() if line.startswith("#")
    }


def test_inspect_tells_of_them_in_lines_that_do_nothing(photos: Path) -> None:
    text = told("inspect", str(photos))
    assert_harmless(text)
    assert "set aside: 1" in text
    assert "[red]a|b`c`[x](javascript:alert(1))" in text  # shown, and not taken for colours


def test_inspect_for_scripts_keeps_the_names_exact(photos: Path) -> None:
    facts = json.loads(told("inspect", str(photos), "--json"))
    assert set(facts["classes"]) == READ_AS
    assert [one["file"] for one in facts["set_aside"]] == [f"{TAG}/{BROKEN}"]
    (copy,) = facts["duplicates"]["copies"]
    assert {copy["file"], copy["copy_of"]} == {f"{HEADING}/00.png", f"{TAG}/{COPY}"}


def test_the_page_of_thumbnails_has_no_element_of_theirs(photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told("inspect", str(photos), "--html", str(page))
    text = page.read_text(encoding="utf-8")
    tags, attributes = tags_of(text)
    assert not tags & {"script", "b>x", "a", "iframe"}
    assert not {name for name in attributes if name.startswith("on")}
    assert {"name", "charset", "content", "http-equiv", "lang", "class", "id", "title", "src", "alt"} >= attributes
    assert text.count("<img ") == len(re.findall(r'<img src="data:image/', text))
    assert all(c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs"} for c in text)


def test_the_report_is_markdown_without_markup_of_theirs(finished: Path) -> None:
    text = load("r").report.read_text(encoding="utf-8")
    assert "Set aside: 1" in text
    assert_harmless_markdown(text)
    assert_harmless(told("report", "r"))


def test_the_report_quotes_whatever_ended_the_run(finished: Path) -> None:
    """Words of a model, of generated code and of the environment: in a finished run and in one that failed."""
    store = open_store()
    row, ledger, totals = store.run("r"), store.ledger("r"), store.totals("r")
    assert row.environment
    for text in map(readable, HOSTILE):
        environment = row.environment.model_copy(
            update={"device": text, "changes": [Change(iteration=1, lines=[text], before=row.environment)]}
        )
        told = row.model_copy(update={"reason": text, "environment": environment})
        moved = [one.model_copy(update={"move": text}) for one in ledger]
        assert_harmless_markdown(report_text(told, moved, totals))
        assert_harmless_markdown(report_text(told.model_copy(update={"first": None}), moved, totals))


def test_show_and_runs_are_lines_that_do_nothing(finished: Path) -> None:
    for words in (("show", "r"), ("runs",)):
        assert_harmless(told(*words))
    facts = json.loads(told("show", "r", "--json"))
    assert set(facts["dataset"]["classes"]) == READ_AS


def test_the_readme_that_is_taken_home_is_markdown_without_markup_of_theirs(finished: Path, tmp_path: Path) -> None:
    to = tmp_path / "taken\x1b[31m"
    assert_harmless(told("export", "r", "--to", str(to)))
    for name in ("report.md",):
        assert_harmless_markdown((to / name).read_text(encoding="utf-8"))
    code = MarkdownIt("commonmark").parse((to / "README.md").read_text(encoding="utf-8"))
    assert not any(
        inline.type in {"html_inline", "link_open", "image"} for block in code for inline in block.children or ()
    )


@pytest.fixture
def predicted(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The winner names the second class of every image."""

    def answers(winner: object, files: Iterator[Path], told: object) -> Iterator[Prediction]:
        names = open_store().run("r").profile.classes  # type: ignore[union-attr]
        shares = [0.1, 0.6, 0.1, 0.1, 0.1]
        ranked = sorted(zip(names, shares, strict=True), key=lambda pair: -pair[1])
        for file in files:
            broken = file.name == BROKEN
            yield Prediction(file, [] if broken else ranked, "cannot be read: \x1b[31m" if broken else None)

    monkeypatch.setattr(
        "improve.predict.winner_of",
        lambda *_: SimpleNamespace(profile=open_store().run("r").profile, device=SimpleNamespace(notes=[])),
    )
    monkeypatch.setattr("improve.predict.predict", answers)
    return finished


def test_predictions_on_a_terminal_are_a_line_for_each_image(predicted: Path) -> None:
    text = told("predict", "r", str(predicted / TAG), str(predicted / BYTES))
    assert_harmless(text)
    assert len(text.splitlines()) == 13 + 12 + 2  # the images, the broken one, and how many could not be read
    assert "caf\\xe9" in text


def test_predictions_for_programs_keep_the_names_exact(predicted: Path, tmp_path: Path) -> None:
    files = [predicted / TAG / COPY, predicted / BYTES / "00.png"]
    found = json.loads(told("predict", "r", *map(str, files), "--json"))
    assert [one["file"] for one in found] == [str(file) for file in files]
    table = tmp_path / "table.csv"
    told("predict", "r", *map(str, files), "--csv", str(table))
    classes = open_store().run("r").profile.classes  # type: ignore[union-attr]
    rows = list(csv.reader(io.StringIO(table.read_bytes().decode("utf-8"), newline="")))
    assert rows[0] == ["file", "class", "probability", *classes]
    assert [row[0] for row in rows[1:]] == [str(files[0]), str(files[1]).replace("\udce9", "\\xe9")]
    assert {row[1] for row in rows[1:]} == {classes[1]}


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({f"{HEADING}/{HEADING}.txt": b""}, ()),
        ({f"{HEADING}/{COPY}": None}, ()),
        ({f"{HEADING}\x1b.csv": b"\x1b[31mname\tx\nno.png\t1\n", COPY: None, f"b{COPY}": None}, ()),
        ({f"{label}/{split}/{COPY}": None for label in (HEADING, TAG) for split in ("train", "test")}, ()),
        ({f"{COPY}.npz": b"no zip"}, ()),
        ({f"a/{COPY}": None, f"b/{COPY}": None}, ("--labels", f"{HEADING}.csv")),
        ({f"a/{COPY}": None, f"b/{COPY}": None}, ("--label-column", f"{HEADING}")),
        ({f"a/{COPY}": None, f"b/{COPY}": None}, ("--label-pattern", f"{HEADING}(")),
        ({f"a/{COPY}": None, f"b/{COPY}": None}, ("--group-pattern", f"({HEADING})")),
    ],
)
def test_what_is_refused_is_told_in_one_paragraph(
    tmp_path: Path, layout: dict[str, bytes | None], words: tuple[str, ...]
) -> None:
    root = tmp_path / "set\x1b[31m\n# owned" / "in\nner"
    for place, (file, content) in enumerate(layout.items()):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            photo(place).save(path, "PNG")
        else:
            path.write_bytes(content)
    done = CliRunner().invoke(app, ["inspect", str(root.parent), *words])
    assert isinstance(done.exception, ImproveError), done.output
    assert_harmless(str(done.exception))
    assert len(str(done.exception).splitlines()) == 1
    assert isinstance(done.exception, DatasetError) or words


def test_a_place_that_is_no_text_is_refused_with_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", BYTES])
    assert isinstance(done.exception, SettingsError)
    assert "dataset='caf\\udce9': it holds bytes that are no UTF-8" in str(done.exception)


def test_the_command_that_is_offered_names_the_same_place_again(tmp_path: Path) -> None:
    for name in ("a b", "it's", "a\n\x1b[31m'\\1é", BYTES):
        word = shell_word(name)
        assert word.isprintable()
        echoed = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
        assert os.fsdecode(echoed.stdout) == name


def test_labels_of_a_table_are_shown_like_names_of_folders(tmp_path: Path) -> None:
    """Halves of characters too, which JSON can carry and no file can."""
    labels = ("\ud800half", "\x1b[31mred\x07\n# owned", "<img src=x>")
    rows = []
    for number, label in enumerate(labels):
        for i in range(12):
            photo(100 * number + i).save(tmp_path / f"{number}-{i:02d}.png")
            rows.append(json.dumps({"file_name": f"{number}-{i:02d}.png", "la\x1bbel\n# owned": label}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert_harmless(told("inspect", str(tmp_path)))
    facts = json.loads(told("inspect", str(tmp_path), "--json"))
    assert len(facts["classes"]) == 3
    assert "\\ud800half" in facts["classes"]
    run(
        Settings(dataset=str(tmp_path), iterations=0, device="cpu"),
        name="r",
        services=Services(team=lambda *_: ScriptedTeam([]), jobs=Jobs()),
    )
    assert_harmless_markdown(load("r").report.read_text(encoding="utf-8"))
    assert_harmless(told("show", "r"))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_tells_of_them_as_it_goes_on(photos: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    settings = Settings(
        dataset=str(photos), iterations=1, device="cpu", folds=1, until_budget=True, describe="\x1b[31mleaves\u202e"
    )
    team = ScriptedTeam([("training", ["raise ValueError('\x1b[31m# x <img>')"])])
    with watching(settings, as_json=as_json) as view:
        run(settings, name="r", services=Services(team=lambda *_: team, jobs=FiveClasses()), on_event=view.show)
    text = capsys.readouterr().out
    assert_harmless(text)
    if as_json:
        kinds = {json.loads(line)["kind"] for line in text.splitlines()}
        assert {"run_started", "dataset_ready", "designed", "fault_found", "finished"} <= kinds


def hostile_events(text: str) -> list[Event]:
    row = LedgerRow(iteration=1, base=0, component="data", move=text, verdict="rejected", summary=text)
    proposal = Proposal(action="change", component="data", move=text, diagnosis=text, hypothesis=text, instruction=text)
    fault = Fault(stage="train", kind=text, message=text, excerpt=text)
    return [
        RunStarted(run="r", resumed=False, sandbox="none", model=text, notes=[text]),
        Designed(text=text),
        Proposed(iteration=1, proposal=proposal),
        ComponentWritten(iteration=1, component="data", lines=1, note=text),
        ModelWaits(model=text, reason=text, seconds=1),
        WeightsFetched(name=text, bytes=0, total=1),
        FaultFound(iteration=1, attempt=1, fault=fault),
        Settled(row=row, reason=text, best_iteration=0, best_validation=0.5),
        Finished(run="r", reason=text, report="report.md"),
    ]


@each_hostile
@given(names)
def test_every_event_is_told_in_lines_that_are_ours(name: str) -> None:
    """In the plain view each is one line, and one more for each note; in the live one, text is text."""
    settings = Settings(dataset="digits", iterations=1)
    screen = Screen(settings)
    screen.console.file = io.StringIO()
    screen.console.width = 100
    for event in hostile_events(readable(name)):
        lines = [line for told in Lines(settings).of(event) for line in told.split("\n")]
        assert len(lines) == (2 if isinstance(event, RunStarted) else 0 if isinstance(event, ComponentWritten) else 1)
        assert all(one_line(line, 10**6) == " ".join(line.split()) for line in lines)
        screen.take(event)
        screen.console.print(screen.draw())
    shown = screen.console.file.getvalue()  # type: ignore[attr-defined]
    assert all(c == "\n" or c.isprintable() for c in shown)


def test_markup_of_the_terminal_library_is_text() -> None:
    """In the live table, and in the table of what was tried."""
    text = "[red]x[/red] [link=http://evil]y[/] :warning:"
    screen = Screen(Settings(dataset="digits", iterations=1))
    row = LedgerRow(iteration=1, base=0, component="data", move=text, verdict="rejected")
    screen.take(Settled(row=row, reason=text, best_iteration=0, best_validation=0.5))
    store = type("Store", (), {"ledger": lambda _self, _name: [row]})()
    for shown in (screen.draw(), ledger_table("r", store), text):
        console = open_console(wide=True)
        with console.capture() as captured:
            console.print(shown)
        assert text in captured.get()


def test_the_question_before_a_training_shows_texts_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]x[/red]\x1b[31m\u202e :warning:"
    proposal = Proposal(action="change", component="data", move=text, diagnosis=text, hypothesis=text, instruction=text)
    asked = ReviewAsked(
        iteration=1, attempt=1, question=text, proposal=proposal, changes=f"+{text}\n# owned\n", train_seconds=1.0
    )
    show_question(asked)
    out = capsys.readouterr().out
    assert_harmless(re.sub("(?m)^# owned *$", "", out))  # the change itself has lines
    assert out.count("[red]x[/red][31m :warning:") >= 5
