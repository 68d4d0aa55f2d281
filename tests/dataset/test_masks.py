"""Masks are no images of a class, and images that only sound like masks stay."""

from pathlib import Path

import pytest

from dataset.inventory import images_below, take_inventory
from dataset.masks import take_out_masks
from tests.dataset.trees import counts, plant, read, several


def without_masks(root: Path) -> tuple[list[str], dict[str, int]]:
    tree = take_inventory(root)
    found = take_out_masks(tree)
    return list(images_below(tree)), found


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{0}.png", "masks/{0}.png"),
        ("images/{0}.jpg", "annotations/trimaps/{0}.png"),
        ("images/{0}.png", "Ground_Truth/{0}_mask.png"),
        ("original/{0}.png", "segmented/{0}.png"),
    ],
)
def test_a_folder_of_masks_is_taken_out_and_counted(image: str, mask: str, tmp_path: Path) -> None:
    plant(tmp_path, *(name.format(i) for i in range(5) for name in (image, mask)))
    images, found = without_masks(tmp_path)
    assert images == [image.format(i) for i in range(5)]
    assert sum(found.values()) == 5


def test_masks_beside_their_images_are_taken_out(tmp_path: Path) -> None:
    """As in the breast ultrasound set: benign/benign (1).png and benign/benign (1)_mask.png."""
    plant(tmp_path, *(f"benign/benign ({i}){end}.png" for i in range(4) for end in ("", "_mask")))
    plant(tmp_path, *(f"normal/normal ({i}){end}.png" for i in range(4) for end in ("", "_mask", "_mask_1")))
    assert counts(read(tmp_path)) == {"benign": 4, "normal": 4}
    assert read(tmp_path).unused == {"masks beside their images": 12}


@pytest.mark.parametrize("names", [("mask", "no_mask"), ("with_mask", "without_mask"), ("face", "mask")])
def test_people_who_wear_masks_are_a_class(names: tuple[str, str], tmp_path: Path) -> None:
    plant(tmp_path, *several(names[0]), *several(names[1], start=100))
    assert counts(read(tmp_path)) == dict.fromkeys(sorted(names), 6)


def test_a_mask_without_its_image_stays(tmp_path: Path) -> None:
    plant(tmp_path, "face/1_mask.png", "face/2.png")
    images, found = without_masks(tmp_path)
    assert (images, found) == (["face/1_mask.png", "face/2.png"], {})
