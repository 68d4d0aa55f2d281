"""Images that are the same picture: equal pixels, and near copies. Near means nearly equal at 16 x 16, so that letters do not all match."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SIDE = 16
NEAR = 3.0  # mean absolute difference of 8-bit grey values at 16 x 16 that re-encoding and resizing stay under
FARTHEST = (
    10  # times the limit of the mean: one cell of a copy; a part that moved or turned changes few cells, but those more
)
BANDS = 8  # rows of 8 bits in a difference hash
FEW = 20_000  # images; for more, buckets of one equal band hold too many that are not alike
MOST_NEIGHBOURS = 64  # of one bucket, next in brightness, that an image is compared with: bounds the search
BLOCK = 65_536  # images or pairs at a time: bounds the memory


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Grey pictures of 16 x 16 cells, each in 255 steps from its darkest cell to its brightest: 264 bytes an image."""

    steps: np.ndarray  # uint8 [N, 256]
    darkest: np.ndarray  # float32 [N]
    brightest: np.ndarray  # float32 [N]

    @classmethod
    def empty(cls, count: int) -> "Thumbnails":
        return cls(np.zeros((count, SIDE * SIDE), np.uint8), np.zeros(count, np.float32), np.zeros(count, np.float32))

    def put(self, index: int, cells: np.ndarray) -> None:
        darkest, brightest = float(cells.min()), float(cells.max())
        self.darkest[index], self.brightest[index] = darkest, brightest
        if brightest > darkest:
            self.steps[index] = np.rint((cells - darkest) * (255 / (brightest - darkest)))

    def of(self, indices: np.ndarray) -> "Thumbnails":
        return Thumbnails(self.steps[indices], self.darkest[indices], self.brightest[indices])

    def cells(self, indices: np.ndarray) -> np.ndarray:
        """float32 [n, 256], as they were put in, to 1/255 of each picture's range."""
        scale = (self.brightest[indices] - self.darkest[indices]) / 255
        return np.asarray(self.steps[indices] * scale[:, None] + self.darkest[indices][:, None], dtype=np.float32)


def find_duplicates(
    contents: np.ndarray, thumbnails: Thumbnails, comparable: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each image the first image of its group.

    Args:
        contents: One digest of the pixels per image.
        comparable: bool [N], images that are large enough for near copies to be told by their thumbnails.

    Returns:
        int64 [N], the index of the first image of the group, and bool [N], whether an earlier image has equal pixels.
    """
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    leaders = first[inverse].astype(np.int64)
    own = leaders == np.arange(len(leaders))
    return _join_near(leaders, thumbnails, np.nonzero(own & comparable)[0]), ~own


def join(leaders: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Join the groups of `a[i]` and `b[i]`: int64 [N], the lowest index of each image's group. At least halves the open joints a round."""
    leaders = leaders.copy()
    while True:
        low, high = np.minimum(leaders[a], leaders[b]), np.maximum(leaders[a], leaders[b])
        if np.array_equal(low, high):
            return leaders
        np.minimum.at(leaders, high, low)
        while not np.array_equal(above := leaders[leaders], leaders):
            leaders = above


def _join_near(leaders: np.ndarray, thumbnails: Thumbnails, own: np.ndarray) -> np.ndarray:
    """Join the groups of the images `own` that look alike.

    Candidates share one band of a 64-bit difference hash (two bands among many images) and are next to each other
    in brightness, so the work grows as n log n.
    """
    brightness, limit, coarse, hashes = _describe(thumbnails, own)
    for bands in combinations(range(BANDS), 1 if len(own) < FEW else 2):
        keys = hashes[:, bands[0]].astype(np.uint16) << 8 | hashes[:, bands[-1]]
        order = np.lexsort((brightness, keys))
        joined, pairs = leaders[own], []
        for a, b in _neighbours(order, keys[order], brightness[order], limit[order]):
            left, right = _alike(a, b, joined, limit, coarse)
            gaps = np.abs(thumbnails.cells(own[left]) - thumbnails.cells(own[right]))
            allowed = np.minimum(limit[left], limit[right])
            alike = (gaps.mean(1) < allowed) & (gaps.max(1, initial=0) < FARTHEST * allowed)
            pairs.append((own[left[alike]], own[right[alike]]))
        if pairs:
            leaders = join(leaders, np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
    return leaders


def _describe(thumbnails: Thumbnails, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean brightness, largest gap to a near copy, means of 4 x 4 parts, and difference hash of each image."""
    brightness, limit = np.zeros(len(own), np.float32), np.zeros(len(own), np.float32)
    coarse, hashes = np.zeros((len(own), 16), np.float32), np.zeros((len(own), BANDS), np.uint8)
    for start in range(0, len(own), BLOCK):
        block = slice(start, start + BLOCK)
        cells = thumbnails.cells(own[block])
        brightness[block] = cells.mean(1)
        # The gap must be small beside what the picture itself varies by: faint drawings are all near each other.
        limit[block] = np.minimum(NEAR, 0.06 * cells.std(1))
        coarse[block] = cells.reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)
        hashes[block] = _difference_hash(thumbnails.steps[own[block]])
    return brightness, limit, coarse, hashes


def _difference_hash(steps: np.ndarray) -> np.ndarray:
    """uint8 [n, BANDS]: each bit says whether brightness rises from one cell of 8 x 9 to the next."""
    rows = steps.reshape(-1, BANDS, 2, SIDE).sum(2, dtype=np.uint16)
    columns = np.linspace(0, SIDE - 1, 9).round().astype(int)
    return np.packbits(rows[:, :, columns[1:]] > rows[:, :, columns[:-1]], axis=2)[:, :, 0]


def _neighbours(
    order: np.ndarray, keys: np.ndarray, brightness: np.ndarray, limit: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of positions of one bucket whose brightness differs by less than a near copy's may. Sorted by key, then brightness."""
    left = np.arange(len(order))
    for step in range(1, MOST_NEIGHBOURS + 1):
        left = left[left + step < len(order)]
        right = left + step
        left = left[(keys[left] == keys[right]) & (brightness[right] - brightness[left] < limit[left])]
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            yield order[block], order[block + step]


def _alike(
    a: np.ndarray, b: np.ndarray, joined: np.ndarray, limit: np.ndarray, coarse: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Keep pairs that are not joined yet and whose parts differ by less than a near copy's may: no near copy is lost."""
    apart = joined[a] != joined[b]
    a, b = a[apart], b[apart]
    alike = np.abs(coarse[a] - coarse[b]).mean(1) < np.minimum(limit[a], limit[b])
    return a[alike], b[alike]
