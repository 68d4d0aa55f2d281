"""Images that are the same picture: equal pixels, and near copies.

Near means nearly equal at 16 x 16 once brightness and contrast are evened out: a copy that was stored anew,
enlarged, or brightened, and the next frame of a burst; but not two letters, or a thing that has turned.
benchmarks/near_copies has the shares that are found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

SIDE = 16
NEAR = 0.08  # mean absolute difference of the cells, in standard deviations of the picture
NEAR_GREY = 4.0  # the same in 8-bit grey values: of two drawings, black on white, most cells agree
FARTHEST = 10  # times that mean: one cell of a copy; a part that moved or turned changes few cells, but those more
BRIGHTER = 20.0  # 8-bit grey values that a copy may be brighter by
MORE_CONTRAST = 1.25  # times the standard deviation
BANDS = 8  # rows of 8 bits in a difference hash
FEW = 20_000  # images; for more, buckets of one equal band hold too many that are not alike
MOST_NEIGHBOURS = 64  # of one bucket, next in order, that an image is compared with: bounds the search
BLOCK = 65_536  # images or pairs at a time: bounds the memory


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Grey pictures of 16 x 16 cells, each in 255 steps from its darkest cell to its brightest: 264 bytes an
    image."""

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
    """Join the groups of `a[i]` and `b[i]`: int64 [N], the lowest index of each image's group.

    At least halves the open joints a round.
    """
    leaders = leaders.copy()
    while True:
        low, high = np.minimum(leaders[a], leaders[b]), np.maximum(leaders[a], leaders[b])
        if np.array_equal(low, high):
            return leaders
        np.minimum.at(leaders, high, low)
        while not np.array_equal(above := leaders[leaders], leaders):
            leaders = above


@dataclass(frozen=True, slots=True)
class _Features:
    """What is compared, of the images `own`: cells are evened out to mean 0 and standard deviation 1."""

    own: np.ndarray  # int64 [n], indices into the thumbnails
    mean: np.ndarray  # float32 [n], 8-bit grey values
    spread: np.ndarray  # float32 [n], their standard deviation
    limit: np.ndarray  # float32 [n], of the mean difference to a near copy
    upper: np.ndarray  # float32 [n], mean of the upper half: that of a near copy differs by less than twice the limit
    coarse: np.ndarray  # float32 [n, 16], means of 4 x 4 parts
    hashes: np.ndarray  # uint8 [n, BANDS]


def _join_near(leaders: np.ndarray, thumbnails: Thumbnails, own: np.ndarray) -> np.ndarray:
    """Join the groups of the images `own` that look alike.

    Candidates share one band of a 64-bit difference hash (two bands among many images) and are next to each
    other in order, so the work grows as n log n.
    """
    features = _describe(thumbnails, own)
    for bands in combinations(range(BANDS), 1 if len(own) < FEW else 2):
        keys = features.hashes[:, bands[0]].astype(np.uint16) << 8 | features.hashes[:, bands[-1]]
        order = np.lexsort((features.upper, keys))
        joined, pairs = leaders[own], []
        for a, b in _neighbours(order, keys[order], features.upper[order], 2 * features.limit[order]):
            left, right = _alike(*_apart(a, b, joined), features, thumbnails)
            pairs.append((own[left], own[right]))
        if pairs:
            leaders = join(leaders, np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
    return leaders


def _describe(thumbnails: Thumbnails, own: np.ndarray) -> _Features:
    mean, spread, upper = (np.zeros(len(own), np.float32) for _ in range(3))
    coarse, hashes = np.zeros((len(own), 16), np.float32), np.zeros((len(own), BANDS), np.uint8)
    for start in range(0, len(own), BLOCK):
        block = slice(start, start + BLOCK)
        cells = thumbnails.cells(own[block])
        mean[block], spread[block] = cells.mean(1), cells.std(1)
        even = _evened(cells, mean[block], spread[block])
        upper[block] = even[:, : SIDE * SIDE // 2].mean(1)
        coarse[block] = even.reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16)
        hashes[block] = _difference_hash(thumbnails.steps[own[block]])
    limit = np.where(spread > 0, np.minimum(NEAR, NEAR_GREY / np.maximum(spread, 1e-6)), 0)
    return _Features(own, mean, spread, limit.astype(np.float32), upper, coarse, hashes)


def _evened(cells: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """float32 [n, 256] of mean 0 and standard deviation 1."""
    return np.asarray((cells - mean[:, None]) / np.maximum(spread, 1e-6)[:, None])


def _difference_hash(steps: np.ndarray) -> np.ndarray:
    """uint8 [n, BANDS]: each bit says whether brightness rises from one cell of 8 x 9 to the next."""
    rows = steps.reshape(-1, BANDS, 2, SIDE).sum(2, dtype=np.uint16)
    columns = np.linspace(0, SIDE - 1, 9).round().astype(int)
    return np.packbits(rows[:, :, columns[1:]] > rows[:, :, columns[:-1]], axis=2)[:, :, 0]


def _neighbours(
    order: np.ndarray, keys: np.ndarray, values: np.ndarray, widest: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of positions of one bucket whose values differ by less than `widest`.

    Sorted by key, then value.
    """
    left = np.arange(len(order))
    for step in range(1, MOST_NEIGHBOURS + 1):
        left = left[left + step < len(order)]
        right = left + step
        left = left[(keys[left] == keys[right]) & (values[right] - values[left] < widest[left])]
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            yield order[block], order[block + step]


def _apart(a: np.ndarray, b: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep pairs that are not joined yet."""
    apart = joined[a] != joined[b]
    return a[apart], b[apart]


def _alike(a: np.ndarray, b: np.ndarray, features: _Features, thumbnails: Thumbnails) -> tuple[np.ndarray, np.ndarray]:
    """Keep pairs that are near copies: first by what is cheap to compare, which loses none, then by all
    cells."""
    limit = np.minimum(features.limit[a], features.limit[b])
    ratio = features.spread[a] / np.maximum(features.spread[b], 1e-6)
    maybe = (np.abs(features.mean[a] - features.mean[b]) < BRIGHTER) & (
        np.maximum(ratio, 1 / np.maximum(ratio, 1e-6)) < MORE_CONTRAST
    )
    maybe &= np.abs(features.coarse[a] - features.coarse[b]).mean(1) < limit
    a, b, limit = a[maybe], b[maybe], limit[maybe]
    left, right = (_evened(thumbnails.cells(features.own[i]), features.mean[i], features.spread[i]) for i in (a, b))
    gaps = np.abs(left - right)
    alike = (gaps.mean(1) < limit) & (gaps.max(1, initial=0) < FARTHEST * limit)
    return a[alike], b[alike]
