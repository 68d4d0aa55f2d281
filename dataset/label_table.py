"""Tables of labels as people have them: any delimiter, encoding and quoting, Excel, JSON lines.

Nothing is dropped in silence.
"""

import csv
import io
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
from charset_normalizer import from_bytes

from dataset.decode import open_regular
from dataset.inventory import TABLES, natural
from schema.errors import DatasetError
from schema.text import name_list, one_line

LARGEST = 2 * 2**30  # bytes
GROWTH = 25  # bytes in memory for a byte of text, at most: short cells and lists
MOST_COLUMNS = 200_000  # a colour image of 256 x 256 pixels has nearly as many
MOST_CELLS = 20_000_000  # of a table in Excel or JSON, empty ones before the last of their row included
EUROPEAN = frozenset({"cp1250", "cp1252", "cp1254", "iso8859_1", "latin_1"})
PUNCTUATION = frozenset("‘’“”„–—…•°€§«»´·")
LARGEST_PART = 2 * 2**20  # bytes of what is in an Excel file beside the cells
UNBOUNDED_PARTS = ("xl/worksheets/", "xl/sharedstrings.xml", "xl/media/")  # cells are counted, pictures are not read
MOST_BAD_LINES = 100  # that are told one by one
MOST_TITLES = 5  # lines above the header
NO_LABEL = frozenset({"", "nan", "na", "n/a", "#n/a", "none", "null", "<na>", "nat", "nil", "-", "?"})


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, without the white space around them.

    Every row has a cell for every column.
    """

    path: Path
    columns: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()
    bad_lines: tuple[str, ...] = ()  # `line 7 has 3 cells instead of 2`
    problem: str = ""  # why the table cannot be believed


def read_table(path: Path) -> Table:
    """Read .csv, .tsv, .txt, .xlsx, .json or .jsonl.

    Raises DatasetError for a file that is no table.
    """
    suffix = path.suffix.lower()
    try:
        if not path.is_file():
            raise DatasetError(
                f"{path}: {'is no file' if path.exists() else 'there is no such file'}. Give the table of"
                " file and label with --labels."
            )
        if suffix in {".xlsx", ".xlsm"}:
            rows, note = _excel_rows(path, _content(path))
            return replace(_from_rows(path, rows), notes=(note,) if note else ())
        if suffix in {".xls", ".ods", ".parquet", ".feather", ".pkl", ".mat"}:
            raise DatasetError(
                f"{path}: {suffix} files are not read. Save the table as .csv and give it with --labels."
            )
        if suffix not in TABLES:  # messages quote what is in a table: nothing else is ever opened as one
            raise DatasetError(
                f"{path} is not called as tables are ({', '.join(sorted(TABLES))}). If it is a table, give it such a name."
            )
        return _from_bytes(path, _content(path))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}. Give the table of file and label with --labels.") from None
    except (csv.Error, RecursionError) as error:
        raise DatasetError(
            f"{path} cannot be read as a table ({one_line(str(error), 100)}). Give a table of file and label with"
            " --labels."
        ) from None


def _content(path: Path) -> bytes:
    """Read a whole file, but no device and no more than it has when it is opened.

    Raises DatasetError for a file that grows meanwhile.
    """
    _check_size(path, path.stat().st_size)
    try:
        stream = open_regular(path)
    except ValueError as error:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            return b""
        raise DatasetError(f"{path} {error}. Give the table of file and label with --labels.") from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        _check_size(path, size)
        raw = stream.read(size + 1)
    if len(raw) > size:
        raise DatasetError(
            f"{path} grew beyond its {size:,} bytes while it was read. Try again when it is written to its end."
        )
    return raw


def _from_bytes(path: Path, raw: bytes) -> Table:
    text, note = _text_of(raw)
    if "\0" in text[:4096]:
        raise DatasetError(
            f"{path} is no table of text. Give a .csv, .tsv, .txt, .xlsx or .jsonl of file and label with --labels."
        )
    notes = (f"{path.name} {note}",) if note else ()
    if path.suffix.lower() in {".json", ".jsonl", ".ndjson"}:
        table = _from_json(path, text)
        return replace(table, notes=(*notes, *table.notes))
    table = _from_text(path, text)
    return replace(table, notes=(*notes, *table.notes))


def _check_size(path: Path, size: int) -> None:
    """Refuse what would not fit into memory."""
    free = psutil.virtual_memory().available
    if size > LARGEST or size * GROWTH > free:
        raise DatasetError(
            f"{path} has {size / 2**20:,.0f} MB as text, more than a table of labels, and takes about"
            f" {size * GROWTH / 2**30:.1f} GB of memory to read ({free / 2**30:.1f} GB are free). Give a smaller one"
            " with --labels."
        )


def _text_of(raw: bytes) -> tuple[str, str]:
    """Decode, and say in which encoding if it is not UTF-8, with some words by which the user can check it."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if raw.startswith(mark):
            return raw.decode(encoding, errors="replace"), "was read as UTF-16" if encoding == "utf-16" else ""
    head = raw[:2000]
    if head.count(0) > len(head) // 4:  # UTF-16 without its mark
        encoding = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
        return raw.decode(encoding, errors="replace"), "was read as UTF-16"
    try:
        return raw.decode("utf-8"), ""
    except UnicodeDecodeError:
        pass
    likely = [
        "cp1252",
        "gb18030",
        "big5",
        "shift_jis",
        "euc_kr",
        "cp1251",
        "cp1250",
        "cp1253",
        "cp1254",
        "iso8859_1",
    ]
    odd = _odd_lines(raw)
    best = from_bytes(odd, cp_isolation=likely).best()
    encoding = best.encoding if best and not _is_western(odd, best.encoding) else "cp1252"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text, encoding = raw.decode("latin-1"), "Latin-1"
    words = list(dict.fromkeys(word for word in re.findall(r"\w+", text[: 2**20]) if not word.isascii()))
    check = f" ({name_list(words, 4)}); if these words are wrong, save it as UTF-8" if words else ""
    return text, f"is no UTF-8 and was read as {encoding}{check}"


def _is_western(odd: bytes, detected: str) -> bool:
    """Say whether text of a European code page is likely that of Western Europe, which most such tables have.

    A few words are too few to tell the code pages of Europe apart. What is Polish in cp1250 has signs within its
    words in cp1252, and none within those of French or Spanish.
    """
    if detected not in EUROPEAN:
        return False
    try:
        words = re.findall(r"[^\s,;|\"']+", odd.decode("cp1252"))
    except UnicodeDecodeError:
        return False
    inner = {c for word in words for c in word.strip("".join(PUNCTUATION)) if not c.isascii()}
    return all(c.isalpha() and c not in "\u00aa\u00ba\u00b5\u0192" for c in inner - PUNCTUATION)


def _odd_lines(raw: bytes) -> bytes:
    """Keep the lines that are not plain ASCII: they alone tell the encoding."""
    return b"\n".join([line for line in raw[: 2**20].splitlines() if not line.isascii()][:2000])


def _excel_rows(path: Path, raw: bytes) -> tuple[list[list[str]], str]:
    """Rows of the largest visible sheet, from its header on; also a note on the others."""
    from openpyxl import load_workbook  # noqa: PLC0415 - only for the few who have one

    try:
        with ZipFile(io.BytesIO(raw)) as packed:
            members = packed.infolist()
        _check_size(path, sum(member.file_size for member in members))
        for member in members:  # styles, names and the like become objects, all at once and many times their size
            if member.file_size > LARGEST_PART and not member.filename.lower().startswith(UNBOUNDED_PARTS):
                raise DatasetError(
                    f"{path}: its part {one_line(member.filename, 80)!r} has {member.file_size / 2**20:,.0f} MB, and no"
                    f" part but its sheets may have more than {LARGEST_PART // 2**20}. Save the sheet of file and label"
                    " as .csv and give that with --labels."
                )
        book = load_workbook(io.BytesIO(raw), read_only=True, data_only=True)
        sheets, left = dict[str, list[list[str]]](), MOST_CELLS
        for sheet in book.worksheets:
            if sheet.sheet_state == "visible":
                sheets[sheet.title], left = _sheet_rows(sheet, left)
        book.close()
    except DatasetError:
        raise
    except Exception as error:  # openpyxl passes on whatever its zip and XML readers raise
        raise DatasetError(
            f"{path} cannot be read as an Excel table ({one_line(str(error), 100)}). Save it as .csv and give"
            " that with --labels."
        ) from None
    filled = sorted((t for t, rows in sheets.items() if len(rows) > 1), key=lambda t: -len(sheets[t])) or list(sheets)
    if not filled:
        return [], ""
    others = name_list([f"{title!r} ({len(sheets[title]) - 1:,} rows)" for title in filled[1:]], 4)
    note = f"{path.name}: of its sheets only the largest, {filled[0]!r}, was read; not used: {others}" if others else ""
    rows = sheets[filled[0]]
    widest = max((sum(map(bool, row)) for row in rows), default=0)
    header = next((i for i, row in enumerate(rows) if sum(map(bool, row)) >= max(1, 0.6 * widest)), 0)
    return rows[header:], note


def _sheet_rows(sheet: Any, left: int) -> tuple[list[list[str]], int]:
    """Read the rows that are not empty, all as wide as the widest; of `left` cells also how many are left."""
    sheet.reset_dimensions()  # what the file says of them: empty rows and columns without end, if it likes
    found = []
    for row in sheet.iter_rows(values_only=True):
        left -= 1 + len(row)
        if left < 0:
            raise ValueError(f"it has more than {MOST_CELLS:,} cells")
        texts = ["" if cell is None else str(cell).strip() for cell in row]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            found.append(texts)
    widest = max(map(len, found), default=0)
    if widest * len(found) > MOST_CELLS:
        raise ValueError(f"it has more than {MOST_CELLS:,} cells")
    return [texts + [""] * (widest - len(texts)) for texts in found], left


def _from_json(path: Path, text: str) -> Table:
    """A JSON line per image, a list of records, or one object that maps files to labels."""
    try:
        if path.suffix.lower() == ".json":
            records = _records(json.loads(text))
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise DatasetError(f"{path} is no table in JSON ({one_line(str(error), 100)}).") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DatasetError(f"{path}: expected a record of file and label per image.")
    nested = {str(key) for record in records for key, value in record.items() if isinstance(value, dict | list)}
    columns = [key for key in dict.fromkeys(str(k) for record in records for k in record) if key not in nested]
    if nested and len(columns) < 2:
        raise DatasetError(f"{path}: its records hold lists or records, which is no table of file and label.")
    if len(columns) > MOST_COLUMNS or len(columns) * len(records) > MOST_CELLS:
        raise DatasetError(
            f"{path}: {len(records):,} records of {len(columns):,} different fields; a table of labels has"
            f" {MOST_COLUMNS:,} columns and {MOST_CELLS:,} cells at most. Give one of file and label with --labels."
        )
    note = (
        (f"{path.name}: fields that hold lists or records are not used: {name_list(sorted(nested))}",) if nested else ()
    )
    return Table(path, columns, [[_cell(record.get(c)) for c in columns] for record in records], notes=note)


def _records(found: Any) -> Any:
    """Bring the usual objects to a list of records: file -> label, file -> record, class -> files, or one
    list under a name."""
    if not isinstance(found, dict):
        return found
    values = list(found.values())
    lists = [value for value in values if isinstance(value, list)]
    if len(lists) == 1 and lists[0] and all(isinstance(one, dict) for one in lists[0]):
        return lists[0]
    if _is_by_column(values):
        return [{name: column[row] for name, column in found.items()} for row in values[0]]
    if values and all(isinstance(value, dict) for value in values):
        return [{"file": file, **record} for file, record in found.items()]
    if len(values) > 1 and len(lists) == len(values) and all(isinstance(one, str) for value in lists for one in value):
        return [{"file": file, "label": label} for label, files in found.items() for file in files]
    if all(key.isdecimal() for key in found) and len({str(value) for value in values}) == len(values):
        raise ValueError("it gives names to numbers: names of classes, not labels of files")
    return [{"file": file, "label": label} for file, label in found.items()]


def _is_by_column(values: list[Any]) -> bool:
    """Say whether a JSON object is a table as pandas writes it: a record of row numbers for each column."""
    if len(values) < 2 or not all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        return False
    return list(values[0]) == [str(i) for i in range(len(values[0]))]


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _from_text(path: Path, text: str) -> Table:
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    named = re.match(r"sep=(.)\n", text, re.IGNORECASE)  # Excel's own first line
    if named:
        text = text[named.end() :]
    comments = re.match(r"(?:#[^\n]*\n)+", text)
    if comments:
        header = comments.group().rstrip("\n").split("\n")[-1].lstrip("# ")
        text = text[comments.end() :]
        delimiter = named.group(1) if named else _delimiter(text, path)
        if len(_cells(header, delimiter)) == len(_cells(text.split("\n", 1)[0], delimiter)):
            text = f"{header}\n{text}"
    else:
        delimiter = named.group(1) if named else _delimiter(text, path)
    rows = [cells for row in _reader(text, delimiter) if any(cells := [_bare(cell) for cell in row])]
    titles = _title_lines(rows)
    table = _from_rows(path, rows[titles:])
    if titles:
        lines = name_list([one_line(" ".join(filter(None, row)), 60) for row in rows[:titles]], 2)
        table = replace(table, notes=(f"{path.name}: what stands above its header was left out: {lines}",))
    if _ends_in_quote(text, delimiter) or _swallows_rows([table.columns, *table.rows], delimiter):
        return replace(table, problem=_unclosed(path, text))
    return table


def _title_lines(rows: list[list[str]]) -> int:
    """How many lines stand above the header: each with one cell, where the others have more."""
    filled = [sum(map(bool, row)) for row in rows[: MOST_TITLES + 3]]
    if len(filled) < 3 or max(filled) < 3:
        return 0
    header = next((i for i, cells in enumerate(filled) if cells >= 0.6 * max(filled)), 0)
    return header if 0 < header <= MOST_TITLES and all(cells == 1 for cells in filled[:header]) else 0


def _swallows_rows(rows: list[list[str]], delimiter: str) -> bool:
    """Say whether a cell of several lines holds rows of the table, as after a quote that is not closed; a comment
    of several lines holds none."""
    shapes = {_shape(row[0]) for row in rows if row}
    return any(
        len(cells) >= len(row) > 1 and _shape(cells[0]) in shapes
        for row in rows
        for cell in row
        if "\n" in cell
        for line in cell.split("\n")[1:]
        if (cells := _cells(line, delimiter))
    )


def _shape(cell: str) -> str:
    return re.sub(r"\d+", "0", cell.strip())


def _bare(cell: str) -> str:
    """Take off the white space and the quotes around a cell."""
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _ends_in_quote(text: str, delimiter: str) -> bool:
    try:
        list(_reader(text, delimiter, strict=True))
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def _reader(text: str, delimiter: str, *, strict: bool = False) -> Iterable[list[str]]:
    if delimiter == " ":
        return (line.split() for line in text.split("\n"))
    csv.field_size_limit(2**24)  # a picture in a cell
    return csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=strict)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(iter(_reader(line, delimiter)), [])


def _delimiter(text: str, path: Path) -> str:
    """Choose the one that cuts most lines into as many cells as the first line, and that into two or more."""
    lines = [line for line in text[: 2**20].split("\n")[:200] if line.strip()]
    best, delimiter = 0.0, ","
    for candidate in ",;\t|" + (" " if path.suffix.lower() == ".txt" else ""):
        counts = [len(_cells(line, candidate)) for line in lines]
        share = counts.count(counts[0]) / len(counts) if counts and counts[0] > 1 else 0.0
        if share > best + 0.05:
            best, delimiter = share, candidate
    return delimiter


def _unclosed(path: Path, text: str) -> str:
    """Name the line at which a quote is opened and not closed."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count('"') % 2:
            return (
                f'{path.name}, line {number}: a quote (") is opened and not closed, which swallows the lines'
                f" that follow: {one_line(line, 80)!r}"
            )
    return f"{path.name}: cells hold line breaks"


def _from_rows(path: Path, rows: list[list[str]]) -> Table:
    if not rows:
        return Table(path, [], [])
    width = len(rows[0])
    while width > 1 and not any(len(row) >= width and row[width - 1] for row in rows):
        width -= 1  # a delimiter at the end of every line
    if width > MOST_COLUMNS:
        raise DatasetError(
            f"{path} has {width:,} columns, and a table of labels or pixels has {MOST_COLUMNS:,} at most. Give one of"
            " file and label with --labels."
        )
    names = [cell.strip() for cell in rows[0][:width]]
    columns = [name or f"column {i}" for i, name in enumerate(names, 1)]
    times = Counter(columns)
    columns = [f"{name} ({i})" if times[name] > 1 else name for i, name in enumerate(columns, 1)]
    bad, number_bad, kept = list[str](), 0, []
    for number, row in enumerate(rows[1:], 2):
        if len(row) < width or any(row[width:]):
            number_bad += 1
            if len(bad) < MOST_BAD_LINES:
                bad.append(f"row {number} has {len(row)} cells instead of {width}: {one_line(', '.join(row), 80)}")
        else:
            kept.append(row[:width])
    if number_bad > len(bad):
        bad.append(f"{number_bad - len(bad):,} more rows have another number of cells than {width}")
    return Table(path, columns, kept, bad_lines=tuple(bad))


def without_header(table: Table) -> Table:
    """Take the first line as a row, too: the columns are then counted."""
    columns = [f"column {i}" for i in range(1, len(table.columns) + 1)]
    return replace(table, columns=columns, rows=[[re.sub(r" \(\d+\)$", "", c) for c in table.columns], *table.rows])


def has_label(cell: str) -> bool:
    """Say whether a cell is a label, not one of the ways to leave it out."""
    return cell.strip().lower() not in NO_LABEL


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort numbers as numbers and names naturally: quadratic kappa depends on the order of grades."""
    distinct = set(labels)
    try:
        return tuple(sorted(distinct, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(distinct, key=natural))
