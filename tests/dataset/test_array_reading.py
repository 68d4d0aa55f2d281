"""Images in arrays and in tables of pixels: each gets its own label, or the source is refused."""

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dataset.discover import discover
from dataset.listing import Listing, ReadingOptions
from schema.errors import DatasetError, SettingsError
from tests.dataset.trees import counts, table

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def read(path: Path, **options: str) -> Listing:
    return discover(str(path), ReadingOptions(**options), workdir=path.parent / "unpacked")  # type: ignore[arg-type]


def saved(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def pixel_table(folder: Path, labels: list[str], more: dict[str, list[str]] | None = None) -> Path:
    columns = {"label": labels, **(more or {})}
    head = [*columns, *(f"pixel{i}" for i in range(64))]
    rows = [
        [*(column[i] for column in columns.values()), *map(str, IMAGES[i % 12, :, :, 0].ravel().tolist())]
        for i in range(len(labels))
    ]
    return table(folder / "digits.csv", [head, *rows])


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS, ("0", "1", "2")),
        (LABELS.astype(np.float64), ("0", "1", "2")),
        (np.eye(3)[LABELS], ("0", "1", "2")),
        (LABELS[:, None], ("0", "1", "2")),
        (np.array(["a", "b", "c"])[LABELS], ("a", "b", "c")),
        (np.array([b"a", b"b", b"c"])[LABELS], ("a", "b", "c")),
    ],
    ids=["numbers", "floats", "one column per class", "a column", "text", "bytes"],
)
def test_labels_of_any_usual_kind(labels: np.ndarray, classes: tuple[str, ...], tmp_path: Path) -> None:
    listing = read(saved(tmp_path, images=IMAGES, labels=labels))
    assert listing.classes == classes
    assert [sample.label for sample in listing.samples] == [classes[i] for i in LABELS]


@pytest.mark.parametrize("names", ["x_{0} y_{0}", "{0}_images {0}_labels", "X_{0} Y_{0}"])
def test_parts_are_known_by_their_names(names: str, tmp_path: Path) -> None:
    image, label = names.split()
    arrays = {}
    for part, some in (("train", slice(0, 6)), ("val", slice(6, 9)), ("test", slice(9, 12))):
        arrays |= {image.format(part): IMAGES[some], label.format(part): LABELS[some]}
    assert counts(read(saved(tmp_path, **arrays))) == {
        f"{split}/{label}": number
        for split, number in (("test", 1), ("train", 2), ("validation", 1))
        for label in "012"
    }


def test_channels_first_are_turned_and_told(tmp_path: Path) -> None:
    listing = read(saved(tmp_path, images=IMAGES.transpose(0, 3, 1, 2), labels=LABELS))
    assert np.array_equal(listing.samples[5].pixels, IMAGES[5])  # type: ignore[arg-type]
    assert any("channels first" in note for note in listing.warnings)


def test_an_image_whose_label_is_not_a_number_is_set_aside(tmp_path: Path) -> None:
    labels = LABELS.astype(float)
    labels[4] = np.nan
    listing = read(saved(tmp_path, images=IMAGES, labels=labels))
    assert [(one.file, one.reason) for one in listing.set_aside] == [("images/4", "has no label in labels ('nan')")]
    assert len(listing.samples) == 11


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    listing = read(saved(tmp_path, images=IMAGES, labels=LABELS, masks=IMAGES))
    assert "arrays that were not used: masks" in listing.warnings


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES, "labels": LABELS[:5]}, "labels has 5 labels beside 12 images"),
        ({"images": IMAGES, "labels": np.ones((12, 3))}, "gives several labels per image, or none"),
        ({"images": np.zeros((12, 8, 8, 6)), "labels": LABELS}, r"float64 \[12, 8, 8, 6\]; expected numbers"),
        ({"images": IMAGES}, r"holds images \[12, 8, 8, 3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_what_was_found(
    arrays: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message):
        read(saved(tmp_path, **arrays))


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="without objects"):
        read(saved(tmp_path, images=IMAGES, labels=np.array(["a", None] * 6, dtype=object)))


@pytest.mark.parametrize("option", ["labels", "file_column", "layout", "group_pattern"])
def test_an_option_on_files_is_refused_and_not_passed_over(option: str, tmp_path: Path) -> None:
    spelt = f"--{option.replace('_', '-')}"
    with pytest.raises(SettingsError, match=f"{spelt} does not go with a.npz, which holds arrays"):
        read(saved(tmp_path, images=IMAGES, labels=LABELS), **{option: "table"})
    with pytest.raises(SettingsError, match=f"{spelt} does not go with digits"):
        read(Path("digits"), **{option: "table"})


def test_a_table_of_pixels_is_read_row_by_row(tmp_path: Path) -> None:
    listing = read(pixel_table(tmp_path, ["3", "10", "3", "2"]))
    assert listing.classes == ("2", "3", "10")
    assert np.array_equal(listing.samples[1].pixels, IMAGES[1, :, :, 0])  # type: ignore[arg-type]
    assert listing.reading == "digits.csv holds the pixels of 4 images of 8 x 8; its column label gives the labels"


def test_rows_of_pixels_without_a_label_are_set_aside(tmp_path: Path) -> None:
    listing = read(pixel_table(tmp_path, ["a", "", "b", "nan"]))
    assert [one.file for one in listing.set_aside] == ["row/1", "row/3"]
    assert listing.classes == ("a", "b")


def test_a_column_of_a_table_of_pixels_gives_the_groups(tmp_path: Path) -> None:
    path = pixel_table(tmp_path, ["a", "b", "a"], {"writer": ["x", "x", "y"]})
    assert [sample.group for sample in read(path, group_column="writer").samples] == ["x", "x", "y"]


def test_a_table_of_pixels_whose_label_column_is_not_clear_is_asked_about(tmp_path: Path) -> None:
    path = pixel_table(tmp_path, ["1", "2"], {"age": ["3", "4"]})
    path.write_text(path.read_text(encoding="utf-8").replace("label", "sort"), encoding="utf-8")
    with pytest.raises(DatasetError, match="which column holds the labels.*sort, age.*--label-column NAME"):
        read(path)
    assert read(path, label_column="sort").classes == ("1", "2")


def test_tables_of_pixels_for_each_part_are_one_set(tmp_path: Path) -> None:
    for part, labels in (("train", ["1", "2"] * 3), ("test", ["1", "2"])):
        pixel_table(tmp_path, labels).rename(tmp_path / f"sign_{part}.csv")
    listing = read(tmp_path)
    assert counts(listing) == {"test/1": 1, "test/2": 1, "train/1": 3, "train/2": 3}
    assert len({sample.name for sample in listing.samples}) == 8
    assert listing.unused == {}


def test_a_table_of_pixels_without_a_header_has_its_labels_at_one_end(tmp_path: Path) -> None:
    path = pixel_table(tmp_path, ["3", "5"] * 4)
    path.write_text(path.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    listing = read(path)
    assert listing.classes == ("3", "5")
    assert len(listing.samples) == 8
    assert np.array_equal(listing.samples[0].pixels, IMAGES[0, :, :, 0])  # type: ignore[arg-type]


def _header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_what_unpacks_to_far_more_than_it_holds_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            file.write(_header("(3000, 1000, 1000)"))
            for _ in range(1200):
                file.write(bytes(2**20))
        archive.writestr("labels.npy", _header("(3000,)") + bytes(3000))
    with pytest.raises(DatasetError, match=r"would unpack from 1\.\d MB to 1\.2 GB"):
        read(tmp_path / "bomb.npz")


def test_arrays_that_memory_cannot_hold_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=np.arange(len(IMAGES)) % 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(DatasetError, match="GB of memory are free. Save the images as files"):
        read(tmp_path / "set.npz")


@pytest.mark.parametrize("content", [b"", b"hello", _header("(100000, 8000, 8000)") + b"x"])
def test_what_is_no_npz_is_named_without_advice_to_trust_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"is no \.npz .*numpy\.savez") as refused:
        read(tmp_path / "set.npz")
    assert "pickle" not in str(refused.value)


def npz_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


def npy_of(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


SQUARES = npy_of("|u1", (4, 8, 8), bytes(range(256)))
ODD = {
    "no arrays": {"images": b"hello", "labels": b"x"},
    "one array": {"images": b"hello", "labels__npy": npy_of("|u1", (4,), b"abcd")},
    "no letters": {"images__npy": SQUARES, "labels__npy": npy_of("<U1", (4,), b"\xff" * 16)},
    "no pixels": {"images__npy": npy_of("|u1", (200_000_000, 0, 0)), "labels__npy": npy_of("<U0", (200_000_000,))},
    "no label": {"images__npy": SQUARES, "labels__npy": npy_of("<U0", (4,))},
    "less than none": {
        "images__npy": npy_of("|u1", (-1, 8, 8), bytes(256)),
        "labels__npy": npy_of("|u1", (4,), b"abcd"),
    },
    "more than there is": {"images__npy": npy_of("|u1", (4, 8000, 8000), bytes(256)), "labels__npy": SQUARES},
    "no header": {"images__npy": SQUARES[:8], "labels__npy": SQUARES},
}


@pytest.mark.parametrize("case", ODD)
def test_arrays_that_are_none_are_a_sentence(case: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.npz"):
        read(npz_of(tmp_path / "a.npz", **ODD[case]))


def test_a_member_of_a_later_zip_is_a_sentence(tmp_path: Path) -> None:
    raw = bytearray(npz_of(tmp_path / "a.npz", images__npy=SQUARES, labels__npy=SQUARES).read_bytes())
    raw[raw.find(b"PK\1\2") + 6] = 255
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(DatasetError, match=r"a\.npz"):
        read(tmp_path / "a.npz")


def test_more_images_than_memory_lists_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, images=np.zeros((3000, 1, 1), np.uint8), labels=np.arange(3000) % 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**20))
    with pytest.raises(DatasetError, match="3,000 entries take"):
        read(path)


def test_an_empty_part_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = saved(
        tmp_path, x_train=IMAGES, y_train=LABELS, x_val=IMAGES[:0], y_val=LABELS[:0], names=np.array([], dtype="U4")
    )
    assert len(read(path).samples) == 12


def test_twenty_million_images_in_a_few_bytes_are_refused(tmp_path: Path) -> None:
    many = npy_of("|u1", (20_000_000, 1, 1), bytes(20_000_000))
    with pytest.raises(DatasetError, match="20,000,000 entries take"):
        read(npz_of(tmp_path / "a.npz", images__npy=many, labels__npy=npy_of("|u1", (4,), b"abcd")))
