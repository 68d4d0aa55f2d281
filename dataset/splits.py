"""Stratified splits that keep duplicates on one side, the same for the same content whatever the order of the files."""

import numpy as np

TEST_SHARE = 0.2  # the paper's 80-20
VALIDATION_SHARE = 0.2
VALIDATION_MOST = 5000  # beyond it the standard error gains little and training loses images
INNER_SHARE = 0.1
INNER_MOST = 2000
SMALLEST_CLASS = 5  # fewer images of a class cannot be in training, validation and test and leave two to learn from


def carve(
    labels: np.ndarray, groups: np.ndarray, digests: list[str], share: float, most: int | None = None
) -> np.ndarray:
    """bool [N]: a stratified part of about `share` of the images, whole groups only, at least one image of every class that has two groups.

    The order within a class follows `digests`, which come from the content, so it does not depend on file names or order.
    """
    if most is not None and len(labels):
        share = min(share, most / len(labels))
    chosen = np.zeros(len(labels), dtype=bool)
    sizes = {int(g): int(n) for g, n in zip(*np.unique(groups, return_counts=True), strict=True)}
    key = {
        int(g): min(digests[i] for i in np.nonzero(groups == g)[0]) if sizes[int(g)] > 1 else ""
        for g in np.unique(groups)
    }
    for label in np.unique(labels):
        members = np.nonzero(labels == label)[0]
        own = sorted({int(groups[i]) for i in members}, key=lambda g: key[g] or digests[g])
        wanted = max(1, round(share * len(members)))
        taken = int(chosen[members].sum())
        free = [g for g in own if not chosen[groups == g].any()]
        for group in free[: max(0, len(own) - 1)]:
            if taken >= wanted:
                break
            chosen[groups == group] = True
            taken = int(chosen[members].sum())
    return chosen
