"""From a listing to arrays on disk: decoded once, audited, split, and shared."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset.decode import decode
from dataset.discover import discover
from dataset.duplicates import content_digest
from dataset.prepare import load_labels, load_names, prepare
from dataset.splits import carve
from schema.dataset import DatasetProfile
from schema.errors import DatasetError
from tests.scripted import image_folder


def prepared(source: Path | str, tmp_path: Path) -> DatasetProfile:
    return prepare(discover(str(source), workdir=tmp_path / "unpacked"), tmp_path / "datasets")


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
    names = load_names(profile, "test")
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
    heldout = sorted(content_digest(image) for image in np.load(folder / "heldout/test.npy"))
    for label in (0, 1):
        first = min(content_digest(image) for image in images[labels == label])
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


def test_a_decompression_bomb_is_a_value_error_for_whoever_decodes_it(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="more pixels than is decoded"):
        decode(tmp_path / "bomb.png", 3, 32, 32)


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
    with pytest.raises(DatasetError, match="'rare' has 1; at least 5 per class.*Add images"):
        prepared(photos, tmp_path)


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


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=8, max_size=60), st.randoms())
def test_a_group_of_duplicates_stays_on_one_side(pairs: list[tuple[int, int]], random: object) -> None:
    labels = np.array([label for label, _ in pairs])
    first: dict[int, int] = {}
    groups = np.array([first.setdefault(group, i) for i, (_, group) in enumerate(pairs)])
    digests = [f"{i:03d}" for i in range(len(pairs))]
    chosen = carve(labels, groups, digests, 0.2)
    assert all(len(set(chosen[groups == group].tolist())) == 1 for group in groups)


@given(st.integers(2, 5), st.integers(4, 30), st.permutations(range(8)))
def test_every_class_is_on_both_sides_whatever_the_order(classes: int, each: int, _order: list[int]) -> None:
    labels = np.repeat(np.arange(classes), each)
    digests = [f"{i * 7919 % 10007:05d}" for i in range(len(labels))]
    chosen = carve(labels, np.arange(len(labels)), digests, 0.2)
    shuffled = np.random.default_rng(1).permutation(len(labels))
    again = carve(labels[shuffled], np.arange(len(labels)), [digests[i] for i in shuffled], 0.2)
    assert {digests[i] for i in np.nonzero(chosen)[0]} == {digests[shuffled[i]] for i in np.nonzero(again)[0]}
    for label in range(classes):
        assert 0 < chosen[labels == label].sum() < each
