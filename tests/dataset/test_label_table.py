"""Tables as people save them: one text, whatever the encoding, the delimiter and the quotes."""

import io
import json
import os
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from dataset import label_table
from dataset.decode import open_regular
from dataset.label_table import class_order, read_table
from schema.errors import DatasetError

ROWS = [["a.png", "cat"], ["b.png", "dog"], ["c.png", "cat"]]
TEXT = "file,label\na.png,cat\nb.png,dog\nc.png,cat\n"


def rows_of(path: Path, content: bytes) -> list[list[str]]:
    path.write_bytes(content)
    table = read_table(path)
    assert table.columns == ["file", "label"]
    return table.rows


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "|").encode(),
        f"sep=;\n{TEXT.replace(',', ';')}".encode(),
        TEXT.replace("cat", '"cat" ').replace(",", " , ").encode(),
        TEXT.replace("\n", ",\n").encode(),
        TEXT.replace("\n", "\n\n").encode(),
    ],
    ids=[
        "plain",
        "bom",
        "utf16",
        "utf16-without-mark",
        "utf16-tabs",
        "crlf",
        "cr",
        "semicolons",
        "bars",
        "sep",
        "quotes",
        "trailing-commas",
        "empty-lines",
    ],
)
def test_the_same_table_in_many_dresses(content: bytes, tmp_path: Path) -> None:
    assert rows_of(tmp_path / "labels.csv", content) == ROWS


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("Müller, Käfer, Größe", "cp1252"), ("玫瑰花 郁金香 向日葵 蒲公英", "gb18030"), ("кошка собака", "cp1251")],
)
def test_an_older_encoding_is_read_and_said(text: str, encoding: str, tmp_path: Path) -> None:
    words = text.replace(",", "").split()
    content = "file,label\n" + "".join(f"{i}.png,{word}\n" for i, word in enumerate(words * 5))
    path = tmp_path / "labels.csv"
    path.write_bytes(content.encode(encoding))
    table = read_table(path)
    assert {row[1] for row in table.rows} == set(words)
    assert table.notes and "was read as" in table.notes[0]


def test_an_excel_table(tmp_path: Path) -> None:
    book = Workbook()
    for row in [["file", "label"], *ROWS]:
        book.active.append(row)
    book.save(tmp_path / "labels.xlsx")
    assert read_table(tmp_path / "labels.xlsx").rows == ROWS


def test_json_lines_and_a_mapping(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"file": file, "label": label}) for file, label in ROWS)
    assert rows_of(tmp_path / "metadata.jsonl", lines.encode()) == ROWS
    assert rows_of(tmp_path / "labels.json", json.dumps(dict(ROWS)).encode()) == ROWS


def test_a_line_with_too_many_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.png,cat\nb.png,black, white\n")
    assert read_table(tmp_path / "labels.csv").bad_lines == ("row 3 has 3 cells instead of 2: b.png, black, white",)


def test_a_quote_that_is_not_closed_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('file,label\na.png,cat\nb.png,"dog\nc.png,cat\n')
    assert "line 3: a quote" in read_table(tmp_path / "labels.csv").problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.xls", b"\xd0\xcf\x11\xe0", "Save the table as .csv"),
        ("labels.xlsx", b"not a zip", "cannot be read as an Excel table"),
        ("labels.csv", b"\0\0\0\1" * 50, "no table of text"),
        ("labels.json", b"{", "no table in JSON"),
    ],
)
def test_what_is_no_table_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_table(tmp_path / name)


def test_grades_are_in_the_order_of_their_numbers() -> None:
    assert class_order(["10", "2", "1.5", "-1"]) == ("-1", "1.5", "2", "10")
    assert class_order(["grade10", "grade2"]) == ("grade2", "grade10")


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1))
def test_the_order_of_classes_does_not_depend_on_that_of_the_rows(labels: list[str]) -> None:
    assert class_order(labels) == class_order(reversed(labels))
    assert set(class_order(labels)) == set(labels)


def test_the_other_sheets_of_a_workbook_are_named(tmp_path: Path) -> None:
    book = Workbook()
    book.active.title = "train"
    test = book.create_sheet("test")
    book.create_sheet("empty")
    for sheet in (book.active, test):
        for row in (["Report of March"], [], ["file", "label"], ["a.png", "cat"]):
            sheet.append(row)
    book.save(tmp_path / "labels.xlsx")
    found = read_table(tmp_path / "labels.xlsx")
    assert (found.columns, found.rows) == (["file", "label"], [["a.png", "cat"]])
    assert found.notes[0].startswith("labels.xlsx: of its sheets only the largest, 'train', was read; not used: 'test'")


@pytest.mark.parametrize(
    "text",
    [
        '{"a.png": "cat", "b.png": "dog"}',
        '{"a.png": {"label": "cat"}, "b.png": {"label": "dog"}}',
        '{"version": 1, "data": [{"file": "a.png", "label": "cat"}, {"file": "b.png", "label": "dog"}]}',
        '{"cat": ["a.png"], "dog": ["b.png"]}',
    ],
)
def test_objects_of_json_that_give_labels(text: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "labels.json")
    assert sorted(
        zip(*[[row[found.columns.index(c)] for row in found.rows] for c in ("file", "label")], strict=True)
    ) == [
        ("a.png", "cat"),
        ("b.png", "dog"),
    ]


def test_comments_above_the_header_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("# made by hand\n# in 2020\nfile;label\na.png;cat\n", encoding="utf-8")
    assert read_table(tmp_path / "labels.csv").columns == ["file", "label"]


def test_fields_of_json_that_hold_lists_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "boxes": [1, 2], "info": {"a": 1}} for i in range(4)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_table(tmp_path / "metadata.jsonl")
    assert found.columns == ["file_name", "label"]
    assert found.notes == ("metadata.jsonl: fields that hold lists or records are not used: boxes, info",)


def test_a_table_of_western_europe_is_not_taken_for_one_of_the_east(tmp_path: Path) -> None:
    """The bytes fit both code pages: Mère would be Mčre."""
    text = "file,label\n" + "".join(f"{i}.png,{('Mère', 'Niño', 'São', 'Århus')[i % 4]}\n" for i in range(40))
    (tmp_path / "labels.csv").write_bytes(text.encode("cp1252"))
    found = read_table(tmp_path / "labels.csv")
    assert {row[1] for row in found.rows} == {"Mère", "Niño", "São", "Århus"}
    assert "read as cp1252 (Mère, Niño, São, Århus); if these words are wrong, save it as UTF-8" in found.notes[0]


def test_a_polish_table_is_read_as_such(tmp_path: Path) -> None:
    words = ("łoś", "żubr", "wąż", "źrebię", "ćma", "kaczka krzyżówka", "jeż zachodni", "gołąb miejski")
    text = "file,label\n" + "".join(f"{i}.png,{words[i % 8]}\n" for i in range(80))
    (tmp_path / "labels.csv").write_bytes(text.encode("cp1250"))
    assert {row[1] for row in read_table(tmp_path / "labels.csv").rows} == set(words)


def test_a_comment_of_several_lines_is_a_cell(tmp_path: Path) -> None:
    text = 'file,label,note\na1.png,cat,"first line\nsecond, with a comma"\na2.png,dog,"one\n\nthree"\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "labels.csv")
    assert (found.problem, [row[:2] for row in found.rows]) == ("", [["a1.png", "cat"], ["a2.png", "dog"]])


def test_rows_within_a_cell_are_those_after_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    text = 'file,label\na1.png,"cat\na2.png,dog\na3.png,"cat\na4.png,dog\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    assert "line 2" in read_table(tmp_path / "labels.csv").problem


def test_titles_above_the_header_are_left_out_and_told(tmp_path: Path) -> None:
    text = "Survey 2023,,\nfile,label,note\na.png,cat,x\nb.png,dog,\nc.png,cat,y\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "labels.csv")
    assert (found.columns, len(found.rows)) == (["file", "label", "note"], 3)
    assert found.notes == ("labels.csv: what stands above its header was left out: Survey 2023",)


def test_a_table_as_pandas_writes_it_in_json(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(
        '{"file": {"0": "a.png", "1": "b.png"}, "label": {"0": "cat", "1": "dog"}}', encoding="utf-8"
    )
    found = read_table(tmp_path / "data.json")
    assert (found.columns, found.rows) == (["file", "label"], [["a.png", "cat"], ["b.png", "dog"]])


def test_names_of_numbered_classes_are_no_table_of_files(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"0": "rust", "1": "healthy"}', encoding="utf-8")
    with pytest.raises(DatasetError, match="names of classes"):
        read_table(tmp_path / "map.json")


@pytest.mark.parametrize("name", ["id_rsa", ".env", "secrets.yaml", "shadow", "history.db"])
def test_what_is_not_called_a_table_is_not_opened_as_one(name: str, tmp_path: Path) -> None:
    """A message says which columns a table has; over HTTP, that would hand out the first line of any file."""
    (tmp_path / name).write_text("OPENAI_API_KEY=sk-canary,x\na,b\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="not called as tables are") as refused:
        read_table(tmp_path / name)
    assert "canary" not in str(refused.value)


DEEP = {
    "labels.json": "[" * 200_000,
    "labels.jsonl": '{"a":' * 200_000,
    "labels.csv": 'file,label\n"' + "x" * (2**24 + 1) + '",a\n',
}


@pytest.mark.parametrize("name", DEEP)
def test_a_table_that_no_reader_takes_is_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(DEEP[name])
    with pytest.raises(DatasetError, match=f"{name} (cannot be read as a table|is no table in JSON)"):
        read_table(tmp_path / name)


def test_a_table_that_would_not_fit_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("file,label\n" + "a.png,b\n" * 1000)
    monkeypatch.setattr(label_table.psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000))
    with pytest.raises(DatasetError, match="more than a table of labels, and takes about 0.0 GB of memory to read"):
        read_table(tmp_path / "a.csv")


def test_many_columns_are_read_in_time_and_no_number_of_them(tmp_path: Path) -> None:
    for columns in (50_000, 200_001):
        (tmp_path / f"{columns}.csv").write_text("\n".join(",".join(["a"] * columns) for _ in range(2)))
    assert len(read_table(tmp_path / "50000.csv").columns) == 50_000
    with pytest.raises(DatasetError, match="has 200,001 columns"):
        read_table(tmp_path / "200001.csv")


def excel(path: Path, rows: str, dimension: str = "") -> Path:
    """A workbook whose only sheet is written by hand."""
    book = Workbook()
    book.active.append(["file", "label"])
    book.save(path.with_suffix(".whole.xlsx"))
    with (
        zipfile.ZipFile(path.with_suffix(".whole.xlsx")) as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        for name in whole.namelist():
            sheet = f'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">{dimension}<sheetData>{rows}</sheetData></worksheet>'
            made.writestr(name, sheet if name.endswith("sheet1.xml") else whole.read(name))
    return path


def row(number: int, *cells: str) -> str:
    inner = "".join(f'<c r="{cell}{number}" t="inlineStr"><is><t>{cell.lower()}{number}</t></is></c>' for cell in cells)
    return f'<row r="{number}">{inner}</row>'


def test_an_excel_table_has_the_cells_that_it_has_whatever_it_says(tmp_path: Path) -> None:
    rows = row(1, "A", "B") + row(2, "A", "B") + row(1_000_000, "A")
    table = read_table(excel(tmp_path / "a.xlsx", rows, '<dimension ref="A1:XFD1048576"/>'))
    assert (table.columns, table.rows) == (["a1", "b1"], [["a2", "b2"], ["a1000000", ""]])


def test_an_excel_table_of_endless_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_table, "MOST_CELLS", 100_000)
    for name, rows in {
        "wide rows": "".join(row(i, "XFD") for i in range(1, 20)),
        "one wide row, and many": row(1, "XFD") + "".join(row(i, "A") for i in range(2, 2000)),
    }.items():
        with pytest.raises(DatasetError, match="it has more than 100,000 cells"):
            read_table(excel(tmp_path / f"{name}.xlsx", rows))


def test_an_excel_table_is_measured_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_table, "LARGEST", 10**6)
    path = excel(tmp_path / "a.xlsx", row(1, "A", "B") * 20_000)
    assert path.stat().st_size < 10**5
    with pytest.raises(DatasetError, match="MB as text, more than a table of labels"):
        read_table(path)


@pytest.mark.parametrize("content", ["", "\n", '"",""\n', " , \n\n"])
def test_a_table_of_nothing_has_no_rows(content: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(content)
    found = read_table(tmp_path / "labels.csv")
    assert (found.columns, found.rows, found.problem) == ([], [], "")


def test_a_word_of_very_many_letters_costs_no_time(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(f"file,label\na.png,{'x' * 500_000}\nb.png,café\n".encode("cp1252"))
    begin = time.monotonic()
    assert "café" in read_table(tmp_path / "labels.csv").notes[0]
    assert time.monotonic() - begin < 10


def test_records_of_a_field_each_of_their_own_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("".join(f'{{"k{i}": 1}}\n' for i in range(5000)))
    with pytest.raises(DatasetError, match="5,000 records of 5,000 different fields"):
        read_table(tmp_path / "labels.jsonl")


def test_of_very_many_bad_lines_the_first_and_their_number_are_kept(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(TEXT + "a\n" * 5000)
    found = read_table(tmp_path / "labels.csv")
    assert (len(found.rows), len(found.bad_lines)) == (3, 101)
    assert found.bad_lines[-1] == "4,900 more rows have another number of cells than 2"


def test_an_excel_table_of_endless_styles_is_refused(tmp_path: Path) -> None:
    book = Workbook()
    for row in [["file", "label"], *ROWS]:
        book.active.append(row)
    book.save(tmp_path / "plain.xlsx")
    with (
        zipfile.ZipFile(tmp_path / "plain.xlsx") as plain,
        zipfile.ZipFile(tmp_path / "labels.xlsx", "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in plain.namelist():
            more = b"<xf/>" * 2_200_000 + b"</cellXfs>" if name == "xl/styles.xml" else b""
            file.writestr(name, plain.read(name).replace(b"</cellXfs>", more) if more else plain.read(name))
    with pytest.raises(DatasetError, match=r"its part 'xl/styles.xml' has 1\d MB"):
        read_table(tmp_path / "labels.xlsx")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(TEXT)

    def growing(opened: Path) -> io.BufferedReader:
        found = open_regular(opened)
        monkeypatch.setattr(os, "fstat", lambda _: SimpleNamespace(st_size=10))
        return found

    monkeypatch.setattr(label_table, "open_regular", growing)
    with pytest.raises(DatasetError, match=r"labels.csv grew beyond its 10 bytes"):
        read_table(path)


def test_what_becomes_a_pipe_after_it_was_looked_at_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "labels.csv")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    with pytest.raises(DatasetError, match=r"labels.csv is a named pipe"):
        read_table(tmp_path / "labels.csv")


def test_a_picture_in_an_excel_file_is_no_reason_to_refuse_it(tmp_path: Path) -> None:
    path = excel(tmp_path / "a.xlsx", row(1, "A", "B") + row(2, "A", "B"))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/media/image1.png", bytes(label_table.LARGEST_PART + 1))
    assert read_table(path).rows == [["a2", "b2"]]
