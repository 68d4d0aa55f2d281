"""Stratified splits that keep groups on one side, the same for the same content whatever the order of the
files."""

import numpy as np

from schema.dataset import Split

TEST_SHARE = 0.2  # the paper's 80-20
VALIDATION_SHARE = 0.2
VALIDATION_MOST = 5000  # beyond it the standard error gains little and training loses images
INNER_SHARE = 0.1
INNER_MOST = 2000
FOLDS = 5  # the validation part, and as many parts of the training images as make five alike
FOLDED_MOST = 5_000  # training images: beyond it one part says enough
SWEEPS = 5  # over the groups, to exchange some
SMALLEST_CLASS = 5  # fewer images of a class cannot be in training, validation and test and leave two to learn from


def assign(
    labels: np.ndarray, groups: np.ndarray, lots: np.ndarray, given: np.ndarray, free: np.ndarray
) -> dict[Split, np.ndarray]:
    """Carve the parts that were not given: int64 indices of each split.

    Args:
        groups: A number per image; images of equal number stay on one side.
        lots: A number per image that is drawn from its content.
        given: Name of the split per image, empty if it is to be carved.
        free: bool [N], images that may be learned from or be carved.
    """
    parts: dict[Split, np.ndarray] = {
        "test": np.nonzero(given == "test")[0],
        "validation": np.nonzero(given == "validation")[0],
    }
    rest = np.nonzero(free)[0]
    if not len(parts["test"]):
        leave = 2 if len(parts["validation"]) else 3
        taken = carve(labels[rest], groups[rest], lots[rest], TEST_SHARE, leave=leave)
        parts["test"], rest = rest[taken], rest[~taken]
    if not len(parts["validation"]):
        taken = carve(labels[rest], groups[rest], lots[rest], VALIDATION_SHARE, VALIDATION_MOST, leave=2)
        parts["validation"], rest = rest[taken], rest[~taken]
    parts["train"] = rest
    return parts


def folds(labels: np.ndarray, groups: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """int64 [N]: in which fold (1 to FOLDS - 1) each training image is held out; 0: in none, since its class has one group only."""
    found = np.zeros(len(labels), dtype=np.int64)
    rest = np.arange(len(labels))
    for fold in range(1, FOLDS):
        share = 1 / (FOLDS - fold)
        taken = carve(labels[rest], groups[rest], lots[rest], share) if share < 1 else np.ones(len(rest), dtype=bool)
        found[rest[taken]] = fold
        rest = rest[~taken]
    pairs = np.unique(np.stack([labels, groups]), axis=1)[0]
    found[np.isin(labels, np.nonzero(np.bincount(pairs) == 1)[0])] = 0
    return found


def carve(
    labels: np.ndarray,
    groups: np.ndarray,
    lots: np.ndarray,
    share: float,
    most: int | None = None,
    *,
    leave: int = 1,
) -> np.ndarray:
    """bool [N]: a stratified part of about `share` of the images, whole groups only, at least one group of
    every class that has two.

    Groups are tried in the order of their lots, rare classes first. One is taken if it brings its classes
    nearer to their share, all in all, and leaves each of them `leave` groups (one less than it has, if it has
    no more). scikit-learn's StratifiedGroupKFold knows only shares of 1/k, may leave a class out of a part,
    and takes a step in Python for every group and fold.
    """
    if not len(labels):
        return np.zeros(0, dtype=bool)
    ranks = _rank_groups(groups, lots)
    classes = int(labels.max()) + 1
    cells, images = np.unique(ranks * classes + labels, return_counts=True)  # a cell: the images of a class in a group
    cell_group, cell_label = np.divmod(cells, classes)
    totals = np.bincount(labels, minlength=classes)
    wanted = np.maximum(1, np.rint(totals * (share if most is None else min(share, most / len(labels)))))
    carving = _Carving(cell_group, cell_label, images, wanted, np.bincount(cell_label, minlength=classes), leave)
    by_label = np.split(np.argsort(cell_label, kind="stable"), np.cumsum(carving.left)[:-1])
    for label in np.argsort(carving.left, kind="stable").tolist():
        carving.fill(label, by_label[label])
    if len(carving.chosen) < len(labels):  # single images have their share already
        carving.refine()
    return np.asarray(carving.chosen[ranks])


def _rank_groups(groups: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """int64 [N]: the place of each image's group when groups are ordered by the lowest lot of their
    images."""
    order = np.lexsort((lots, groups))
    first = np.append(True, np.diff(groups[order]) != 0)
    place = np.empty(int(first.sum()), dtype=np.int64)
    place[np.argsort(lots[order][first], kind="stable")] = np.arange(len(place))
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = place[np.cumsum(first) - 1]
    return ranks


class _Carving:
    """Which groups are taken so far.

    Cells are sorted by group.
    """

    def __init__(  # noqa: PLR0917 - the table of cells and what is wanted of it
        self,
        cell_group: np.ndarray,
        cell_label: np.ndarray,
        images: np.ndarray,
        wanted: np.ndarray,
        groups: np.ndarray,
        leave: int,
    ) -> None:
        self.chosen = np.zeros(int(cell_group[-1]) + 1, dtype=bool)
        self.left = groups.tolist()  # groups per class that are not taken
        self._least = np.maximum(1, np.minimum(leave, groups - 1)).tolist()
        self._taken = [0] * len(groups)  # images per class
        self._wanted = wanted.tolist()
        self._starts = np.searchsorted(cell_group, np.arange(len(self.chosen) + 1)).tolist()
        self._groups, self._labels, self._images = cell_group.tolist(), cell_label.tolist(), images.tolist()

    def fill(self, label: int, cells: np.ndarray) -> None:
        """Take groups until the class has its share, and one at least if it can be spared."""
        for cell in cells.tolist():
            if self._taken[label] >= self._wanted[label]:
                return
            group = self._groups[cell]
            if not self.chosen[group] and self._can_be_spared(group) and self._cost(group) < 0:
                self._take(group)
        if not self._taken[label]:
            spare = [self._groups[cell] for cell in cells.tolist() if self._can_be_spared(self._groups[cell])]
            if spare:
                self._take(min(spare, key=self._cost))

    def refine(self) -> None:
        """Exchange groups of several classes that were taken for one and are too many for another."""
        for _ in range(SWEEPS):
            changed = False
            for group in range(len(self.chosen)):
                if self.chosen[group]:
                    if self._can_be_dropped(group) and self._cost(group, sign=-1) < 0:
                        self._take(group, sign=-1)
                        changed = True
                elif self._can_be_spared(group) and self._cost(group) < 0:
                    self._take(group)
                    changed = True
            if not changed:
                return

    def _cells(self, group: int) -> range:
        return range(self._starts[group], self._starts[group + 1])

    def _can_be_spared(self, group: int) -> bool:
        labels = [self._labels[cell] for cell in self._cells(group)]
        return all(self.left[label] > self._least[label] for label in labels)

    def _can_be_dropped(self, group: int) -> bool:
        return all(self._taken[self._labels[cell]] > self._images[cell] for cell in self._cells(group))

    def _cost(self, group: int, sign: int = 1) -> float:
        """How much further from their shares its classes would be: the growth of the squared gaps, as shares
        of the aims."""
        cost = 0.0
        for cell in self._cells(group):
            label, images = self._labels[cell], sign * self._images[cell]
            cost += images * (2 * (self._taken[label] - self._wanted[label]) + images) / self._wanted[label]
        return cost

    def _take(self, group: int, sign: int = 1) -> None:
        """Take a group, or with `sign` -1 give it back."""
        self.chosen[group] = sign > 0
        for cell in self._cells(group):
            self.left[self._labels[cell]] -= sign
            self._taken[self._labels[cell]] += sign * self._images[cell]
