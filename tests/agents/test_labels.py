"""An augmentation that can change the label is a defect: what is reasoned about mirror images, turns, crops and colours."""

import string
from collections.abc import Sequence

import pytest

from agents.playbook.labels import Symmetry, symmetry
from schema.race import MirrorTest, Race
from tests.agents.briefs import CIFAR, make_brief

DIGITS = tuple("0123456789")
ARABIC = (
    "alif 1.1",
    "alif 1.2",
    "ba 2.1",
    "ba 2.2",
    "ta 3.1",
    "kha 7.3",
    "dal 8.1",
    "sin 12.4",
    "shin 13.1",
    "ya 28.2",
)
CLOTHES = [
    "Blazer",
    "Blouse",
    "Body",
    "Dress",
    "Hat",
    "Hoodie",
    "Longsleeve",
    "Other",
    "Outwear",
    "Pants",
    "Polo",
    "Shirt",
    "Shoes",
    "Shorts",
    "Skip",
    "Skirt",
    "T-Shirt",
    "Top",
    "Undershirt",
]
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EUROSAT = (
    "AnnualCrop",
    "Forest",
    "HerbaceousVegetation",
    "Highway",
    "Industrial",
    "Pasture",
    "PermanentCrop",
    "River",
    "SeaLake",
)
GTSRB = ("Speed limit (20km/h)", "Speed limit (30km/h)", "Yield", "Keep right", "Keep left", "Roundabout mandatory")


@pytest.mark.parametrize(
    "classes",
    [
        CIFAR,
        CLOTHES,
        FASHION,
        ("cardboard", "glass", "metal", "paper", "plastic", "trash"),
        ("cloudy", "rain", "shine", "sunrise"),
        ("cats", "dogs"),
        ("Cat", "Dog", "Wild animal"),
        ("cup", "fork", "glass", "knife", "plate", "spoon"),
        ("apple_pie", "baby_back_ribs", "caesar_salad", "chocolate_cake"),
        ("Tomato___healthy", "Tomato___Early_blight", "Potato___Late_blight"),
        ("golden_retriever", "german_shepherd", "beagle", "upright_dog", *CIFAR, "school_bus", "street_sign"),
    ],
)
def test_photographs_of_things_may_be_mirrored_but_not_turned_upside_down(classes):
    found = symmetry(make_brief(classes))
    assert (found.flip, found.vertical) == ("keeps", "unknown")


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ([f"orientation_{i:02d}" for i in range(40)], "dsprites"),
        (["0", "90", "180", "270"], "pages"),
        (["rot0", "rot90", "rot180", "rot270"], "photos"),
        ([str(a) for a in range(0, 360, 10)], "cars"),
        (["angle_15", "angle_30", "angle_45"], "x"),
        (["left", "right"], "eyes"),
        (["left_hand", "right_hand"], "xray"),
        (["Left Shoe", "Right Shoe"], "shoes"),
        (["TurnLeft", "TurnRight", "Straight"], "road"),
        (["up", "down"], "thumbs"),
        (["arrow_up", "arrow_down", "other"], "icons"),
        (["facing_left", "facing_right", "facing_camera"], "horses"),
        (["upright", "inverted"], "cups"),
        (["clockwise", "counterclockwise", "none"], "galaxies"),
        (["horizontal", "vertical", "diagonal"], "scratches"),
        (["original", "flipped"], "x"),
        (["portrait", "landscape"], "photos"),
        (["north", "south", "east", "west"], "compass"),
        (["dog_left", "dog_right", "cat_left", "cat_right"], "animals"),
        (["galaxy_cw", "galaxy_ccw"], "sky"),
    ],
)
def test_where_the_class_is_an_orientation_nothing_is_mirrored_or_turned(classes, name):
    found = symmetry(make_brief(classes, name=name))
    assert (found.flip, found.vertical, found.turn) == ("changes", "changes", "changes")


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (DIGITS, "digits"),
        (DIGITS, "x"),
        (DIGITS[1:], "sudoku"),
        (["0 - zero", "1 - one", "2 - two", "3 - three"], "mnist"),
        (["zero", "one", "two", "three", "four"], "x"),
        (["digit_1", "digit_2", "digit_6", "digit_9"], "x"),
        (tuple(string.ascii_uppercase), "x"),
        ([*string.ascii_uppercase, "del", "nothing", "space"], "asl"),
        (["b", "d", "p", "q"], "x"),
        (["letter_b", "letter_d"], "x"),
        (ARABIC, "hijja"),
        (["ا", "ب", "ت", "ث"], "x"),
        (["あ", "い", "う", "え"], "kana"),
        (["가", "나", "다"], "x"),
        (["ka", "kha", "ga", "gha", "nga"], "x"),
        (["alpha", "beta", "gamma", "delta"], "greek"),
        (["aleph", "bet", "gimel", "dalet"], "x"),
        (["U+3042", "U+3044", "U+3046"], "kmnist"),
        (["4a", "4b", "4c", "30", "31"], "nist"),
        (["character_01", "character_02"], "omniglot"),
        ([f"ab{i}" for i in range(10, 30)], "codes"),
        (["0", "1", "10", "11"], "svhn"),
        (["uppercase", "lowercase"], "x"),
    ],
)
def test_letters_digits_and_codes_are_never_mirrored(classes, name):
    found = symmetry(make_brief(classes, name=name, channels=1))
    assert (found.flip, found.vertical, found.hide) == ("changes", "changes", "changes")


@pytest.mark.parametrize("classes", [DIGITS, ARABIC])
def test_letters_may_turn_a_little(classes):
    assert symmetry(make_brief(classes)).turn == "keeps"


@pytest.mark.parametrize(
    "classes",
    [
        GTSRB,
        ("thumbs up sign", "fist", "palm"),
        ("invoice", "receipt", "form"),
        ("flag_ireland", "flag_ivory_coast", "flag_italy"),
        ("10:15", "10:30", "10:45"),
        ("top_left", "center", "bottom"),
        ("quadrant 1", "quadrant 2", "quadrant 3"),
    ],
)
def test_signs_writing_flags_clocks_and_places_are_not_mirrored(classes):
    assert symmetry(make_brief(classes)).flip == "changes"


@pytest.mark.parametrize(
    "classes", [("class_1", "class_2"), ("a1b2", "c3d4", "e5f6"), ("n01440764", "n02102040"), ("good", "bad")]
)
def test_without_any_hint_a_mirror_image_is_at_most_a_change_to_be_judged(classes):
    assert symmetry(make_brief(classes, name="x", side=128)).flip == "unknown"


def test_small_grey_pictures_without_any_hint_may_be_symbols():
    assert symmetry(make_brief(["class_1", "class_2"], name="x", channels=1)).flip == "changes"


@pytest.mark.parametrize(
    ("classes", "description"),
    [
        (EUROSAT, "Sentinel-2 satellite patches"),
        (("benign", "malignant"), "histopathology slides, H&E"),
        (("lymphocyte", "monocyte", "neutrophil"), ""),
        (("class_1", "class_2"), "The orientation of the parts does not matter."),
    ],
)
def test_pictures_without_up_or_down_have_every_symmetry(classes, description):
    found = symmetry(make_brief(classes, name="x", description=description))
    assert (found.flip, found.vertical, found.turn) == ("keeps", "keeps", "keeps")


@pytest.mark.parametrize(
    ("description", "flip"),
    [
        ("Photographs of pets.", "keeps"),
        ("Photos of cars from different angles.", "keeps"),
        ("Photos taken in various directions and random orientations.", "keeps"),
        ("Which way does the animal look, left or right?", "changes"),
        ("The class is the rotation of the object in degrees.", "changes"),
        ("Handwritten characters of an invented script.", "changes"),
        ("House numbers cropped from street photographs.", "changes"),
        ("Photos of road signs.", "changes"),
        ("American sign language, one hand.", "changes"),
        ("Photos. Do not flip them.", "changes"),
        ("A mirrored part is a different part.", "changes"),
        ("Small parts. Mirroring is fine.", "keeps"),
        ("Defects on steel.", "unknown"),
        ("Chest x-rays of patients.", "unknown"),
    ],
)
def test_the_description_decides_where_the_names_do_not(description, flip):
    classes = ("type_a1", "type_b1", "type_c1")
    assert symmetry(make_brief(classes, name="x", side=128, description=description)).flip == flip


def test_a_description_cannot_make_an_orientation_task_safe():
    brief = make_brief(["left", "right"], description="Photos of animals. Mirroring is fine.")
    assert symmetry(brief).flip == "changes"


@pytest.mark.parametrize(
    ("classes", "change", "effect"),
    [
        (("red apple", "green apple"), "colour", "changes"),
        (("ripe", "unripe"), "colour", "changes"),
        (("cloudy", "rain", "shine", "sunrise"), "colour", "unknown"),
        (CIFAR, "colour", "keeps"),
        (("scale_1", "scale_2", "scale_3"), "scale", "changes"),
        (("small dog", "large dog"), "scale", "changes"),
        (("position_x_1", "position_x_2"), "shift", "changes"),
        (("count_1", "count_2"), "hide", "changes"),
        (("1 objects", "2 objects"), "scale", "changes"),
    ],
)
def test_what_the_classes_speak_of_is_left_alone(classes, change, effect):
    assert getattr(symmetry(make_brief(classes, name="x")), change) == effect


def test_every_answer_says_why():
    assert all(symmetry(make_brief(classes)).because for classes in (CIFAR, DIGITS, ("class_1", "class_2")))


def measured(classes: Sequence[str], right: int, mirrored: int, least: float, description: str = "") -> Symmetry:
    test = MirrorTest(images=600, right=right, right_mirrored=mirrored, least_kept=least)
    task = make_brief(list(classes), description=description)
    return symmetry(task.model_copy(update={"race": Race(entries=[], mirror=test)}))


CODES = ("n03804744", "n02058221", "n01443537")


@pytest.mark.parametrize(
    ("classes", "right", "mirrored", "least", "flip"),
    [
        (CODES, 500, 495, 0.9, "keeps"),
        (CODES, 500, 350, 0.6, "changes"),
        (CODES, 500, 480, 0.2, "changes"),
        (CODES, 100, 100, 1.0, "unknown"),
        (("b", "d", "p"), 500, 450, 0.6, "changes"),
        (("cat", "dog", "horse"), 500, 300, 0.5, "changes"),
        (("left", "right", "straight"), 500, 500, 1.0, "changes"),
    ],
    ids=["photographs under codes", "all suffer", "one class suffers", "it knows too little", "neither, so words decide",
         "what looks natural and is not", "classes that speak of sides"],
)  # fmt: skip
def test_what_a_trained_head_says_of_mirrored_images_goes_before_words(
    classes: Sequence[str], right: int, mirrored: int, least: float, flip: str
) -> None:
    assert measured(classes, right, mirrored, least).flip == flip


@pytest.mark.parametrize(
    ("description", "mirrored", "flip"),
    [("photographs of animals; mirroring is fine", 300, "keeps"), ("never mirror these", 500, "changes")],
)
def test_what_the_person_says_goes_before_both(description: str, mirrored: int, flip: str) -> None:
    assert measured(CODES, 500, mirrored, 1.0, description).flip == flip
