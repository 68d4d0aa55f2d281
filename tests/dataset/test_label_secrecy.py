"""Held-out labels stay secret whatever is known: all that a job is shown of the split depends on random bytes that it never sees.

The job of these tests is the strongest that there can be: it has this source code, every image, and a guess of every label that happens to be
right. It may not even find out that the guess is right.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from checkpoints.home import datasets_dir, split_secret
from dataset.discover import discover
from dataset.prepare import load_labels, prepare
from schema.dataset import DatasetProfile
from tests.dataset.decoding import shared_decoders

PER_CLASS = 150
CLASSES = 4
PARTS = ("train/images.npy", "heldout/validation.npy", "heldout/test.npy")


def prepared(source: Path, datasets: Path, secret: bytes) -> DatasetProfile:
    return prepare(
        discover(str(source), workdir=datasets / "unpacked"), datasets, secret=secret, decoders=shared_decoders()
    )


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Images whose bytes a job has in full, class by class, as arrays and photo folders are."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    images = generator.integers(0, 60, (len(labels), 8, 8, 3)).astype(np.uint8)
    images[np.arange(len(labels)), labels, labels] += 180
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    return tmp_path / "set.npz"


def shown(profile: DatasetProfile, part: str) -> list[str]:
    """The images of an array as digests, in the order in which a job has them."""
    return [_digest(image) for image in np.load(Path(profile.directory) / part)]


def _digest(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image.transpose(1, 2, 0)).tobytes()).hexdigest()


def _rank_correlation(places: Sequence[object]) -> float:
    """Spearman's, of a list with its own order; 1 for a sorted one."""
    ranks = np.argsort(np.argsort(np.array(places, dtype=object), kind="stable"))
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])


@pytest.mark.parametrize("purpose", ["order", "split", "", "heldout", "test"])
@pytest.mark.parametrize(
    "key",
    [
        lambda rows, _train: hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest(),  # what once was the secret
        lambda rows, _train: hashlib.sha256("\n".join(rows).encode()).hexdigest(),
        lambda _rows, train: hashlib.sha256("\n".join(sorted(train)).encode()).hexdigest(),
        lambda _rows, _train: "",
        lambda _rows, _train: "0" * 64,
    ],
    ids=["labelled files", "labelled files in order", "training files", "nothing", "zeros"],
)
def test_a_right_guess_of_all_labels_is_not_confirmed_by_the_order(
    arrays: Path, tmp_path: Path, key: Callable[[list[str], list[str]], str], purpose: str
) -> None:
    profile = prepared(arrays, tmp_path / "datasets", split_secret())
    train, validation, heldout = (shown(profile, part) for part in PARTS)
    known = np.load(Path(profile.directory) / "train/labels.npy").tolist()
    truth = [*known, *load_labels(profile, "validation").tolist(), *load_labels(profile, "test").tolist()]
    images = [*train, *validation, *heldout]
    rows = [f"{profile.classes[label]}\0{digest}" for digest, label in zip(images, truth, strict=True)]
    guessed = key(rows, train)
    for lot in (
        [hashlib.sha256(f"{guessed} {purpose} ".encode() + digest.encode()).digest() for digest in heldout],
        [hashlib.sha256(f"{guessed} {purpose} {digest}{row}".encode()).digest() for digest, row in zip(heldout, rows[-len(heldout) :], strict=True)],
    ):  # fmt: skip
        assert abs(_rank_correlation(lot)) < 0.4


def test_the_name_of_the_folder_confirms_nothing(arrays: Path, tmp_path: Path) -> None:
    """A job is told the path of its data, and the folder is named after the content, labels and all."""
    one = prepared(arrays, tmp_path / "one", bytes(32))
    other = prepared(arrays, tmp_path / "other", bytes([1]) * 32)
    assert one.fingerprint == other.fingerprint
    assert one.key != other.key


def test_the_same_secret_gives_the_same_split_and_another_one_another(arrays: Path, tmp_path: Path) -> None:
    profiles = [
        prepared(arrays, tmp_path / name, secret)
        for name, secret in (("first", bytes(32)), ("again", bytes(32)), ("other", bytes([1]) * 32))
    ]
    first, again, other = ([shown(profile, part) for part in PARTS] for profile in profiles)
    assert first == again
    assert all(set(one) != set(another) for one, another in zip(first, other, strict=True))


def test_over_many_secrets_every_place_is_as_likely_for_every_class(arrays: Path, tmp_path: Path) -> None:
    """The mean place of the images of a class is the middle: nothing but the secret decides."""
    places: dict[int, list[float]] = {label: [] for label in range(CLASSES)}
    for number in range(12):
        profile = prepared(arrays, tmp_path / str(number), bytes([number]) * 32)
        labels = load_labels(profile, "test")
        for label in range(CLASSES):
            places[label].append(float(np.nonzero(labels == label)[0].mean()) / (len(labels) - 1))
    # A mean of 12 x 30 places of a uniform draw has a standard deviation of 0.015.
    assert all(abs(np.mean(found) - 0.5) < 0.07 for found in places.values())


def test_copies_with_contradicting_labels_do_not_lie_in_the_order_of_their_classes(tmp_path: Path) -> None:
    """The first of two equal pictures would always be of the first class."""
    generator = np.random.default_rng(1)
    shared, own, other = generator.integers(0, 255, (3, 200, 8, 8, 3)).astype(np.uint8)
    images = np.concatenate([shared, own, shared, other])
    np.savez(tmp_path / "set.npz", images=images, labels=np.repeat([0, 1], 400))
    profile = prepared(tmp_path / "set.npz", tmp_path / "datasets", bytes(32))
    images, truth = np.load(Path(profile.directory) / "heldout/test.npy"), load_labels(profile, "test")
    digests = np.array([_digest(image) for image in images])
    twice = [digest for digest, number in zip(*np.unique(digests, return_counts=True), strict=True) if number == 2]
    firsts = [truth[np.nonzero(digests == digest)[0][0]] for digest in twice]
    assert len(firsts) > 25
    assert 0.2 < np.mean(firsts) < 0.8


def test_what_a_job_is_shown_of_the_data_has_no_date_and_no_name_of_an_image(arrays: Path) -> None:
    profile = prepared(arrays, datasets_dir(), split_secret())
    folder = Path(profile.directory)
    seen = {file.relative_to(folder).as_posix() for part in ("train", "heldout") for file in (folder / part).iterdir()}
    assert seen == {
        "train/images.npy",
        "train/labels.npy",
        "train/inner.npy",
        "train/dataset.json",
        "heldout/validation.npy",
        "heldout/test.npy",
        "heldout/inner.npy",
    }
    assert {file.stat().st_mtime for file in (folder / "heldout").iterdir()} == {0.0}
    assert (folder / "private").stat().st_mode & 0o077 == 0
