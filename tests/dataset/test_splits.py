"""Carving parts of the images: whole groups, every class, about the share that is wanted."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataset.splits import assign, carve

CELLS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=80)


def lots_of(count: int) -> np.ndarray:
    """Different numbers in no order."""
    return (np.arange(count, dtype=np.uint64) * np.uint64(7919) + np.uint64(13)) % np.uint64(104_729)


def carved(labels: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    everything = np.ones(len(labels), dtype=bool)
    parts = assign(labels, groups, lots_of(len(labels)), np.full(len(labels), "", dtype="U10"), everything)
    return {str(split): part for split, part in parts.items()}


@given(CELLS)
def test_a_group_never_lies_on_two_sides(cells: list[tuple[int, int]]) -> None:
    labels, groups = np.array(cells).T
    parts = carved(labels, groups)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(cells)))
    sides = [set(groups[part].tolist()) for part in parts.values()]
    assert sum(len(side) for side in sides) == len(set(groups.tolist()))


@given(st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=12), min_size=2, max_size=5))
def test_every_class_of_three_groups_is_in_all_parts(sizes_of_groups: list[list[int]]) -> None:
    """One list of sizes per class."""
    labels = np.repeat(np.arange(len(sizes_of_groups)), [sum(sizes) for sizes in sizes_of_groups])
    sizes = [size for sizes in sizes_of_groups for size in sizes]
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for part in carved(labels, groups).values():
        assert set(labels[part].tolist()) == set(range(len(sizes_of_groups)))


@given(st.integers(0, 1000), st.integers(2, 6))
def test_shares_are_near_their_aim_for_many_small_groups(seed: int, classes: int) -> None:
    """Each group holds images of several classes, as patients do."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(200), random.integers(1, 8, 200))
    labels = random.integers(0, classes, len(groups))
    parts = carved(labels, groups)
    assert abs(len(parts["test"]) / len(groups) - 0.2) < 0.03
    assert abs(len(parts["validation"]) / len(groups) - 0.16) < 0.03
    shares = np.bincount(labels[parts["test"]], minlength=classes) / np.bincount(labels, minlength=classes)
    assert np.abs(shares - 0.2).max() < 0.08


@given(st.integers(2, 5), st.integers(4, 30), st.integers(0, 100))
def test_the_order_of_the_files_does_not_matter(classes: int, each: int, seed: int) -> None:
    labels = np.repeat(np.arange(classes), each)
    lots, alone = lots_of(len(labels)), np.arange(len(labels))
    chosen = carve(labels, alone, lots, 0.2)
    order = np.random.default_rng(seed).permutation(len(labels))
    again = carve(labels[order], alone, lots[order], 0.2)
    assert set(lots[chosen].tolist()) == set(lots[order][again].tolist())
    for label in range(classes):
        assert 0 < chosen[labels == label].sum() < each


def test_a_class_of_one_group_is_not_carved() -> None:
    labels = np.repeat([0, 1], 20)
    groups = np.where(labels == 1, 100, np.arange(40))
    assert not carve(labels, groups, lots_of(40), 0.2)[labels == 1].any()


def test_a_group_that_is_far_too_large_stays_if_a_smaller_one_serves() -> None:
    groups = np.repeat(np.arange(21), [80, *[1] * 20])
    for shift in range(100):
        lots = (lots_of(100) + np.uint64(1000 * shift)) % np.uint64(104_729)
        assert carve(np.zeros(100, dtype=int), groups, lots, 0.2).sum() <= 20


def test_a_part_holds_no_more_than_the_most() -> None:
    labels = np.zeros(1000, dtype=int)
    assert carve(labels, np.arange(1000), lots_of(1000), 0.2, most=50).sum() == 50
