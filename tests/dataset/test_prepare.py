"""From a listing to arrays on disk: decoded once, audited, split, and shared."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset import arrays
from dataset.decode import decode
from dataset.decoders import Unreadable
from dataset.discover import discover
from dataset.listing import ReadingOptions
from dataset.manifest import read_files
from dataset.prepare import load_inner_labels, load_labels, prepare
from schema.dataset import DatasetProfile
from schema.errors import DatasetError
from tests.dataset.decoding import shared_decoders
from tests.scripted import image_folder

SECRET = bytes(32)


def prepared(
    source: Path | str,
    tmp_path: Path,
    *,
    image_size: int | None = None,
    drop_rare_classes: bool = False,
    group_pattern: str | None = None,
) -> DatasetProfile:
    listing = discover(str(source), ReadingOptions(group_pattern=group_pattern), workdir=tmp_path / "unpacked")
    return prepare(
        listing,
        tmp_path / "datasets",
        secret=SECRET,
        decoders=shared_decoders(),
        image_size=image_size,
        drop_rare_classes=drop_rare_classes,
    )


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def names_of(profile: DatasetProfile, split: str) -> list[str]:
    return [row.file for row in read_files(profile) or [] if row.split == split]


def save(pixels: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def save_random(folder: Path, count: int, shape: tuple[int, int] = (12, 12), seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    for i in range(count):
        save(random.integers(0, 256, (*shape, 3), dtype=np.uint8), folder / f"{i}.png")


def content(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_the_arrays_are_what_a_job_reads(tmp_path: Path) -> None:
    profile = prepared(image_folder(tmp_path / "photos"), tmp_path)
    root = Path(profile.directory)
    images, labels, inner = (np.load(root / "train" / f"{name}.npy") for name in ("images", "labels", "inner"))
    assert images.shape == (profile.size("train"), 3, 12, 12)
    assert (images.dtype, labels.dtype, inner.dtype) == (np.uint8, np.int64, np.bool_)
    facts = json.loads((root / "train" / "dataset.json").read_text())
    assert sum(facts["counts"]) == int((~inner).sum())
    assert np.load(root / "heldout" / "test.npy").shape[0] == profile.size("test") == len(load_labels(profile, "test"))


def test_without_a_given_split_a_fifth_is_for_the_test(tmp_path: Path) -> None:
    profile = prepared(image_folder(tmp_path / "photos"), tmp_path)
    assert (profile.size("test"), profile.size("validation"), profile.size("train")) == (12, 10, 38)


def test_held_out_images_carry_no_hint(tmp_path: Path) -> None:
    profile = prepared(image_folder(tmp_path / "photos", per_class=60), tmp_path)
    names = names_of(profile, "test")
    assert names != sorted(names)
    heldout = Path(profile.directory) / "heldout"
    assert {path.stat().st_mtime for path in heldout.iterdir()} == {0.0}


def test_the_order_of_held_out_images_says_nothing_about_their_class(tmp_path: Path) -> None:
    """The data set is given class by class; a job that knows the order learns no label from it."""
    profile = prepared(image_folder(tmp_path / "photos", per_class=250), tmp_path)
    for split in ("validation", "test"):
        labels = load_labels(profile, split)
        places = np.arange(len(labels))
        assert len(labels) >= 80
        assert abs(np.corrcoef(places, labels)[0, 1]) < 0.3
        assert 0.35 < (labels[1:] == labels[:-1]).mean() < 0.65
        assert abs(np.corrcoef(places % 2, labels)[0, 1]) < 0.3


def test_what_the_images_themselves_tell_says_nothing_about_the_split(tmp_path: Path) -> None:
    """Were the first by content taken of every class, whatever comes after the first training image of a class would not be of that class."""
    profile = prepared(image_folder(tmp_path / "photos", per_class=250), tmp_path)
    folder = Path(profile.directory)
    images, labels = np.load(folder / "train/images.npy"), np.load(folder / "train/labels.npy")
    heldout = [content(image) for image in np.load(folder / "heldout/test.npy")]
    for label in (0, 1):
        first = min(content(image) for image in images[labels == label])
        assert np.searchsorted(heldout, first) < 0.2 * len(heldout)


def test_no_held_out_image_is_nearly_a_training_image(tmp_path: Path) -> None:
    """Each picture comes twice, the second time a little brighter and stored anew: both stay on one side."""
    photos = image_folder(tmp_path / "photos", per_class=30, size=32)
    for file in sorted(photos.rglob("*.png")):
        pixels = np.asarray(Image.open(file)).astype(int) + 1
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file.with_name(f"copy-{file.name}"))
    profile = prepared(photos, tmp_path)
    assert profile.duplicates.near == 60
    train = np.load(Path(profile.directory) / "train/images.npy").astype(int)
    for split in ("validation", "test"):
        heldout = np.load(Path(profile.directory) / "heldout" / f"{split}.npy").astype(int)
        assert min(np.abs(train - image).mean((1, 2, 3)).min() for image in heldout) > 5


def test_the_inner_validation_images_lie_beside_the_held_out_ones_in_the_order_of_their_labels(tmp_path: Path) -> None:
    profile = prepared(image_folder(tmp_path / "photos", per_class=40), tmp_path)
    folder = Path(profile.directory)
    images, inner = np.load(folder / "train/images.npy"), np.load(folder / "train/inner.npy")
    assert inner.any()
    assert np.array_equal(np.load(folder / "heldout/inner.npy"), images[inner])
    assert np.array_equal(load_inner_labels(profile), np.load(folder / "train/labels.npy")[inner])


def test_a_second_run_reuses_the_arrays(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    first = prepared(photos, tmp_path)
    before = (Path(first.directory) / "profile.json").stat().st_mtime_ns
    second = prepared(photos, tmp_path)
    assert second.directory == first.directory
    assert (Path(second.directory) / "profile.json").stat().st_mtime_ns == before


def test_damaged_arrays_are_made_again(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    images = Path(prepared(photos, tmp_path).directory) / "train" / "images.npy"
    os.truncate(images, 100)
    prepared(photos, tmp_path)
    assert np.load(images).ndim == 4


def test_another_image_makes_another_data_set(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    first = prepared(photos, tmp_path).key
    Image.new("RGB", (12, 12), "blue").save(photos / "left" / "new.png")
    assert prepared(photos, tmp_path).key != first


def test_files_that_cannot_be_read_are_set_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    (photos / "left" / "empty.png").write_bytes(b"")
    (photos / "left" / "text.png").write_text("no image")
    whole = (photos / "right" / "0.png").read_bytes()
    (photos / "right" / "cut.png").write_bytes(whole[: len(whole) // 2])
    profile = prepared(photos, tmp_path)
    reasons = {Path(aside.file).name: aside.reason for aside in profile.set_aside}
    assert "zero bytes" in reasons["empty.png"]
    assert "not an image" in reasons["text.png"]
    assert "cut.png" in reasons
    assert sum(profile.size(split) for split in ("train", "validation", "test")) == 60


def test_a_decompression_bomb_is_set_aside(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    Image.new("1", (20_000, 20_000)).save(photos / "left" / "bomb.png")
    profile = prepared(photos, tmp_path)
    assert [a.file for a in profile.set_aside] == ["left/bomb.png"]
    assert "decompression bomb" in profile.set_aside[0].reason


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    (photos / "rare").mkdir()
    Image.new("RGB", (12, 12)).save(photos / "rare" / "a.png")
    with pytest.raises(
        DatasetError, match="1 of 3 classes.*'rare' has 1; at least 5 per class.*Add images.*--drop-rare-classes"
    ):
        prepared(photos, tmp_path)


def test_rare_classes_are_left_out_if_that_is_asked_for(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    for label in ("alone", "rare"):
        save_random(photos / label, 2, seed=ord(label[0]))
    profile = prepared(photos, tmp_path, drop_rare_classes=True)
    assert profile.classes == ["left", "right"]
    assert sum(profile.size(split) for split in ("train", "validation", "test")) == 60
    assert {aside.file.split("/")[0] for aside in profile.set_aside} == {"alone", "rare"}
    assert "2 of 4 classes were left out as too rare, with 4 images" in " ".join(profile.warnings)
    labels = np.load(Path(profile.directory) / "train/labels.npy")
    assert set(labels.tolist()) == {0, 1}


def test_rare_classes_are_not_left_out_if_one_class_would_stay(tmp_path: Path) -> None:
    save_random(tmp_path / "photos" / "many", 20)
    save_random(tmp_path / "photos" / "few", 2, seed=1)
    with pytest.raises(DatasetError, match="without these classes 1 would be left"):
        prepared(tmp_path / "photos", tmp_path, drop_rare_classes=True)


def test_a_black_data_set_is_refused(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            save(np.zeros((12, 12, 3), np.uint8), tmp_path / "photos" / label / f"{i}.png")
    with pytest.raises(DatasetError, match="All 20 images are the same picture"):
        prepared(tmp_path / "photos", tmp_path)


def test_a_class_of_one_picture_is_learned_but_not_tested_and_that_is_told(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    for i in range(30):
        save(np.full((12, 12, 3), 7, np.uint8), photos / "burst" / f"{i}.png")
    profile = prepared(photos, tmp_path)
    burst = profile.classes.index("burst")
    assert profile.counts["train"][burst] == 30
    assert any("'burst' has one picture only (30 copies of it)" in warning for warning in profile.warnings)


def test_images_that_leave_no_validation_part_are_refused(tmp_path: Path) -> None:
    for value, label in ((0, "a"), (200, "b")):
        for i in range(10):
            save(np.full((12, 12, 3), value, np.uint8), tmp_path / "photos" / label / f"{i}.png")
    with pytest.raises(
        DatasetError, match="No image is left for the test part: the 20 images are 2 different pictures"
    ):
        prepared(tmp_path / "photos", tmp_path)


def test_classes_that_the_given_test_part_lacks_are_named(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos" / "train")
    save_random(tmp_path / "photos" / "test" / "left", 4, seed=9)
    warnings = prepared(tmp_path / "photos", tmp_path).warnings
    assert any("1 of 2 classes has no image in the given test part" in w and "'right'" in w for w in warnings)


def test_a_part_of_the_user_with_hardly_any_image_is_questioned(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos" / "train", per_class=30)
    save_random(tmp_path / "photos" / "val" / "left", 1, seed=9)
    warnings = prepared(tmp_path / "photos", tmp_path).warnings
    assert any(warning.startswith("your validation part has 1 of 61 images") for warning in warnings)


def test_images_of_one_group_stay_on_one_side(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for clip in range(8):
            save_random(tmp_path / "photos" / label / f"clip{clip}", 4, seed=100 * ord(label) + clip)
    profile = prepared(tmp_path / "photos", tmp_path, group_pattern=r"^(.*)/\d+$")
    assert profile.groups == 16
    sides = {
        split: {name.rsplit("/", 1)[0] for name in names_of(profile, split)}
        for split in ("train", "validation", "test")
    }
    assert sum(len(clips) for clips in sides.values()) == 16
    inner = {row.file.rsplit("/", 1)[0] for row in read_files(profile) or [] if row.inner}
    learned = {
        row.file.rsplit("/", 1)[0] for row in read_files(profile) or [] if row.split == "train" and not row.inner
    }
    assert not inner & learned


def test_groups_that_the_given_split_tears_apart_are_counted(tmp_path: Path) -> None:
    for label in ("a", "b"):
        save_random(tmp_path / "photos" / "train" / label, 10, seed=ord(label))
        save_random(tmp_path / "photos" / "test" / label, 4, seed=10 + ord(label))
    profile = prepared(tmp_path / "photos", tmp_path, group_pattern=r"([ab]/\d+)$")
    assert profile.size("test") == 8
    assert any("8 groups lie in your test part and elsewhere: 8 images" in w for w in profile.warnings)


@pytest.mark.parametrize(
    ("source", "image_size", "stored"),
    [
        ((300, 600), None, (128, 256)),
        ((300, 600), 100, (50, 100)),
        ((300, 600), 2000, (300, 600)),  # never enlarged
        ((5, 5), None, (8, 8)),  # but for what no network takes
        ((1, 64), None, (8, 64)),
    ],
)
def test_the_stored_size(
    source: tuple[int, int], image_size: int | None, stored: tuple[int, int], tmp_path: Path
) -> None:
    for label in ("a", "b"):
        save_random(tmp_path / "photos" / label, 6, source, seed=ord(label))
    profile = prepared(tmp_path / "photos", tmp_path, image_size=image_size)
    assert (profile.height, profile.width) == stored
    assert any("the shorter side is enlarged" in w for w in profile.warnings) == (source == (1, 64))


def test_larger_images_are_stored_if_the_caller_allows_and_they_fit(tmp_path: Path) -> None:
    for label in ("a", "b"):
        save_random(tmp_path / "photos" / label, 6, (400, 600), seed=ord(label))
    listing = discover(str(tmp_path / "photos"), workdir=tmp_path / "unpacked")
    profile = prepare(listing, tmp_path / "datasets", secret=SECRET, decoders=shared_decoders(), largest=512)
    assert (profile.height, profile.width) == (341, 512)


def test_shapes_that_differ_much_are_told(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    save_random(photos / "left" / "long", 2, (12, 90))
    assert any("2 images are more than 3 times as wide" in w for w in prepared(photos, tmp_path).warnings)


def test_arrays_that_are_made_again_at_the_stored_size_are_the_same(tmp_path: Path) -> None:
    for label in ("a", "b"):
        save_random(tmp_path / "photos" / label, 8, (301, 403), seed=ord(label))
    first = prepared(tmp_path / "photos", tmp_path)
    shutil.rmtree(first.directory)
    again = prepared(tmp_path / "photos", tmp_path, image_size=max(first.height, first.width))
    assert (again.key, again.files) == (first.key, first.files)


def test_the_split_does_not_depend_on_the_stored_size(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", size=40)
    assert prepared(photos, tmp_path, image_size=32).files == prepared(photos, tmp_path, image_size=20).files


def test_an_image_that_vanishes_between_the_passes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = discover(str(image_folder(tmp_path / "photos")), workdir=tmp_path / "unpacked")
    monkeypatch.setattr(arrays, "pixels", lambda samples, *_: (Unreadable("does not exist") for _ in samples))
    with pytest.raises(DatasetError, match=r"(left|right)/\d+.png was readable a moment ago.*does not exist"):
        prepare(listing, tmp_path / "datasets", secret=SECRET, decoders=shared_decoders())
    assert not [path for path in (tmp_path / "datasets").iterdir() if path.is_dir()]


def test_progress_is_told_for_both_passes(tmp_path: Path) -> None:
    listing = discover(str(image_folder(tmp_path / "photos")), workdir=tmp_path / "unpacked")
    told: list[tuple[str, int, int]] = []
    prepare(
        listing,
        tmp_path / "datasets",
        secret=SECRET,
        decoders=shared_decoders(),
        on_progress=lambda *now: told.append(now),
    )
    assert [stage for stage, done, total in told if done == total] == ["reading images", "storing images"]
    assert all(a[1] < b[1] for a, b in pairwise(told) if a[0] == b[0])


def test_no_more_disk_is_taken_than_the_arrays_need(tmp_path: Path) -> None:
    listing = discover(str(image_folder(tmp_path / "photos")), workdir=tmp_path / "unpacked")
    images = 60 * 3 * 12 * 12
    most = 0

    def look(*_: object) -> None:
        nonlocal most
        files = [file for file in (tmp_path / "datasets").rglob("*") if file.is_file()]
        most = max(most, sum(file.stat().st_size for file in files))

    prepare(listing, tmp_path / "datasets", secret=SECRET, decoders=shared_decoders(), on_progress=look)
    assert most < images + 4000


def test_the_profile_takes_over_what_was_read_and_what_was_not_used(tmp_path: Path) -> None:
    listing = discover(str(image_folder(tmp_path / "photos")), workdir=tmp_path / "unpacked")
    found = replace(listing, reading="one folder per class", unused={"is a table": 2})
    profile = prepare(found, tmp_path / "datasets", secret=SECRET, decoders=shared_decoders())
    assert (profile.reading, profile.unused) == ("one folder per class", {"is a table": 2})


def test_deep_images_share_one_range_of_values(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        for i in range(10):
            save(random.integers(0, 60_000, (16, 16), dtype=np.uint16), tmp_path / "photos" / label / f"{i}.png")
    profile = prepared(tmp_path / "photos", tmp_path)
    assert profile.value_range == (0.0, 65535.0)
    assert any("more than 8 bits" in warning for warning in profile.warnings)


def test_training_images_that_recur_in_the_given_test_part_leave_the_training_part(tmp_path: Path) -> None:
    image_folder(tmp_path / "photos" / "train", per_class=30)
    test = tmp_path / "photos" / "test"
    for label in ("left", "right"):
        (test / label).mkdir(parents=True)
        for i in range(3):
            Image.open(tmp_path / "photos" / "train" / label / f"{i}.png").save(test / label / f"t{i}.png")
    profile = prepared(tmp_path / "photos", tmp_path)
    assert profile.duplicates.across_splits == 6
    assert profile.size("test") == 6
    assert all("same picture as test/" in aside.reason for aside in profile.set_aside)


def test_grey_pictures_are_stored_with_one_channel(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    for path in photos.rglob("*.png"):
        Image.open(path).convert("L").convert("RGB").save(path)
    assert prepared(photos, tmp_path).channels == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_eight_bit_colour(mode: str, tmp_path: Path) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    image = Image.fromarray(np.full((6, 4), 40_000, np.uint16)) if mode == "I;16" else Image.new(mode, (4, 6))
    image.save(tmp_path / f"a.{suffix}")
    pixels = decode(tmp_path / f"a.{suffix}", 3, None, None)
    assert (pixels.shape, pixels.dtype) == ((3, 6, 4), np.uint8)


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 3, None, None).min() == 255


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 1, None, None).min() == 255


def test_a_photo_taken_sideways_stands_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg", 3, None, None).shape == (3, 8, 4)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "a.gif", 3, None, None)[0].min() > 200


def test_a_class_that_is_a_copy_of_another_is_refused(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", per_class=10)
    first = min(folder for folder in photos.iterdir() if folder.is_dir())
    shutil.copytree(first, photos / f"{first.name} - Copy")
    with pytest.raises(DatasetError, match=r"hold the same pictures \(10 of 10 are equal\).*move it elsewhere"):
        prepared(photos, tmp_path)


def test_equal_pictures_of_two_classes_are_named(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos", per_class=20)
    one, other = sorted(folder for folder in photos.iterdir() if folder.is_dir())[:2]
    shutil.copy(min(one.iterdir()), other / "again.png")
    warnings = prepared(photos, tmp_path).warnings
    assert any("1 image has another label than an image of equal pixels" in w and "again.png" in w for w in warnings)
