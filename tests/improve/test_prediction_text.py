"""Predictions as people and programs read them."""

import csv
import io
import json
from pathlib import Path

import pytest

from improve.predict import Prediction
from improve.prediction_text import table_at, write_csv, write_json, write_lines
from schema.errors import InputError

ODD = 'cat\tor, "dog"\nline'
FOUND = [
    Prediction(Path("a, b.png"), [("2", 0.9), (ODD, 0.1)]),
    Prediction(Path("broken.png"), [], "is truncated"),
    Prediction(Path("c\n\x1b[31m.png"), [(ODD, 0.6), ("2", 0.4)]),
]


def test_a_class_that_is_a_number_is_told_from_its_probability() -> None:
    out = io.StringIO()
    list(write_lines(iter(FOUND), out, top=None))
    assert out.getvalue().splitlines() == [
        'a, b.png  class 2: 90.0 %  class cat or, "dog" line: 10.0 %',
        'c [31m.png  class cat or, "dog" line: 60.0 %  class 2: 40.0 %',
    ]


def test_a_table_has_a_column_for_each_class_in_the_order_of_the_training() -> None:
    out = io.StringIO()
    list(write_csv(iter(FOUND), out, ["2", ODD], top=None))
    rows = list(csv.reader(io.StringIO(out.getvalue())))
    assert rows[0] == ["file", "class", "probability", "2", ODD]
    assert rows[1] == ["a, b.png", "2", "0.900000", "0.900000", "0.100000"]
    assert rows[2] == ["c\n\x1b[31m.png", ODD, "0.600000", "0.400000", "0.600000"]
    assert len(rows) == 3


def test_a_table_of_the_best_classes_names_them() -> None:
    out = io.StringIO()
    list(write_csv(iter(FOUND[:1]), out, ["2", ODD], top=2))
    header, row = csv.reader(io.StringIO(out.getvalue()))
    assert header == ["file", "class", "probability", "class_2", "probability_2"]
    assert row == ["a, b.png", "2", "0.900000", ODD, "0.100000"]


def test_a_table_keeps_every_name_to_the_letter() -> None:
    """`=1+1` too: a spreadsheet is told to read text (docs/cli.md), and a join needs the name."""
    for name in ("=1+1", "@x", "a\rb", "a\r\nb", '"', "a,b", "caf\udce9.png"):
        out = io.StringIO()
        list(write_csv(iter([Prediction(Path(name), [(name, 1.0)])]), out, [name], top=None))
        rows = list(csv.reader(io.StringIO(out.getvalue(), newline="")))
        exact = name.replace("\udce9", "\\xe9")
        assert rows == [["file", "class", "probability", exact], [exact, exact, "1.000000", "1.000000"]]


def test_a_table_on_a_terminal_is_made_harmless() -> None:
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    list(write_csv(iter(FOUND), out, ["2", ODD], top=None))
    assert out.getvalue().splitlines()[2].startswith("c [31m.png,")
    assert "\x1b" not in out.getvalue()


def test_json_keeps_names_exact_and_has_the_problems() -> None:
    out = io.StringIO()
    list(write_json(iter(FOUND), out, top=1))
    rows = json.loads(out.getvalue())
    assert rows[1] == {"file": "broken.png", "problem": "is truncated", "classes": {}}
    assert rows[2]["classes"] == {ODD: 0.6}


def test_json_of_nothing_is_an_empty_list() -> None:
    out = io.StringIO()
    list(write_json(iter([]), out, top=None))
    assert json.loads(out.getvalue()) == []


def test_a_table_does_not_replace_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("pixels")
    with pytest.raises(InputError, match="its name does not end in .csv"), table_at(str(tmp_path / "a.png")):
        pass
    assert (tmp_path / "a.png").read_text() == "pixels"


def test_a_table_is_there_when_all_of_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), table_at(str(tmp_path / "t.csv")) as out:
        out.write("half")
        1 / 0  # noqa: B018
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir() if file.is_file()] == [("t.csv", "old")]
