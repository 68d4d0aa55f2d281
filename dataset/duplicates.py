"""Images that are the same picture: equal pixels, and near copies. Near means nearly equal at 16 x 16, so that letters do not all match."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

SIDE = 16
NEAR = 3.0  # mean absolute difference of 8-bit grey values at 16 x 16 that re-encoding and resizing stay under
BANDS, DIGITS = 8, 8


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """float32 [256]: block means of the grey image, the same for all stored sizes from 16 up."""
    grey = pixels.astype(np.float32).mean(0)
    rows = np.linspace(0, grey.shape[0], SIDE + 1).astype(int)
    columns = np.linspace(0, grey.shape[1], SIDE + 1).astype(int)
    if min(grey.shape) < SIDE:
        return np.resize(grey, SIDE * SIDE)  # tiny images are compared as they are
    blocks = np.add.reduceat(np.add.reduceat(grey, rows[:-1], 0), columns[:-1], 1)
    area = np.outer(np.diff(rows), np.diff(columns))
    return np.asarray((blocks / area).reshape(-1), dtype=np.float32)


def content_digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def groups(digests: list[str], thumbnails: np.ndarray, *, near: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each image the index of the first image of its group, int64 [N], and whether it equals that one exactly, bool [N].

    `thumbnails` float32 [N, 256]. Candidates for nearness share one of 8 bands of a 64-bit difference hash, so the search is not quadratic.
    """
    first: dict[str, int] = {}
    leader = np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], dtype=np.int64)
    exact = np.array([leader[i] != i for i in range(len(digests))])
    if not near:
        return leader, exact
    unique = np.array(sorted(set(leader.tolist())), dtype=np.int64)
    parent = {int(i): int(i) for i in unique}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in _near_pairs(unique, thumbnails):
        ra, rb = root(a), root(b)
        parent[max(ra, rb)] = min(ra, rb)
    return np.array([root(int(i)) for i in leader], dtype=np.int64), exact


def _near_pairs(indices: np.ndarray, thumbnails: np.ndarray) -> Iterable[tuple[int, int]]:
    hashes = _difference_hash(thumbnails[indices])
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for position, row in enumerate(hashes):
            buckets[row[band].tobytes()].append(position)
        for bucket in buckets.values():
            if 1 < len(bucket) <= 200:  # larger buckets are flat images, which say nothing
                yield from _verified(indices[bucket], thumbnails)


def _verified(bucket: np.ndarray, thumbnails: np.ndarray) -> Iterable[tuple[int, int]]:
    images = thumbnails[bucket]
    contrast = images.std(1)
    gaps = np.abs(images[:, None] - images[None]).mean(2)
    # The gap must be small beside what the picture itself varies by: faint drawings are all near each other.
    limit = np.minimum(NEAR, 0.06 * np.minimum(contrast[:, None], contrast[None]))
    for a, b in zip(*np.nonzero(np.triu(gaps < limit, 1)), strict=True):
        yield int(bucket[a]), int(bucket[b])


def _difference_hash(thumbnails: np.ndarray) -> np.ndarray:
    """uint8 [N, BANDS, 1 or more]: each bit says whether brightness rises from one cell of 8 x 9 to the next."""
    cells = thumbnails.reshape(-1, 8, 2, SIDE).mean(2)
    columns = np.linspace(0, SIDE - 1, 9).round().astype(int)
    bits = np.diff(cells[:, :, columns], axis=2) > 0
    return np.packbits(bits, axis=2)
