"""Images labelled by the folders they lie in: class folders, split folders of them, and what stands
between."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dataset.file_index import fold
from dataset.inventory import Folder, foreign_below, images_below, natural
from dataset.listing import Sample
from dataset.reading import Reading, clean_name, count
from dataset.split_names import is_generic, is_series, is_unlabelled, split_and_class, split_of, splits_of
from schema.dataset import SetAside, Split
from schema.errors import DatasetError
from schema.text import name_list


@dataclass(slots=True)
class ClassFolders:
    """The folders of one level that hold images, with the split that all of them are in."""

    level: Folder
    split: Split | None
    folders: list[Folder]


@dataclass(slots=True)
class FolderReadings:
    """Every way to read the folders.

    `generic` means that no folder's name is that of a class.
    """

    readings: list[Reading] = field(default_factory=list)
    generic: bool = False
    level: Folder | None = None  # where descending through folders of folders ended


def with_images(folder: Folder) -> list[Folder]:
    return [inner for inner in folder.folders if inner.total]


def class_level(tree: Folder) -> Folder:
    """Descend through folders that hold one folder with images and nothing else that counts.

    A lone class folder is not entered.
    """
    level = tree
    while not level.images and not level.foreign and len(with_images(level)) == 1:
        inner = with_images(level)[0]
        if not (with_images(inner) or is_generic(inner.name) or fold(inner.name) == fold(level.name)):
            break
        level = inner
    return level


def read_folders(root: Path, tree: Folder, layout: str | None = None) -> FolderReadings:
    """Find the readings that the folders allow; `layout` leaves one of them.

    Raises DatasetError if they contradict each other.
    """
    level = class_level(tree)
    inner = with_images(level)
    if not inner:
        return FolderReadings(level=level)
    if layout in {None, "split-folders"}:
        splits = _split_folders(root, level)
        if splits:
            return FolderReadings([splits], all(map(is_generic, splits.classes)), level)
    if layout:
        return FolderReadings([_as_told(root, level, inner, layout)], level=level)
    _refuse_inner_splits(root, inner)
    deeper = [folder for folder in inner if with_images(folder)]
    generic = all(is_generic(folder.name) for folder in inner)
    same_inside = len(deeper) == len(inner) > 1 and _same_names_inside(inner)
    counted = same_inside and all(is_series(folder.name) for folder in inner)
    if (generic and deeper) or counted:
        reading = _inner_reading(root, level, deeper)
        return FolderReadings([reading], all(map(is_generic, reading.classes)), level)
    readings = [_class_reading(root, level, inner)]
    below = [one for folder in inner for one in with_images(class_level(folder))]
    if same_inside and not all(is_generic(one.name) or is_series(one.name) for one in below):
        readings.append(_inner_reading(root, level, inner))
    return FolderReadings(readings, generic, level)


def _refuse_inner_splits(root: Path, inner: list[Folder]) -> None:
    """Raise DatasetError if folders hold split folders of their own, such as one set per fold, size or site:
    which is meant?"""
    own = [folder for folder in inner if _holds_splits(folder)]
    if not own:
        return
    splits = name_list([f"{one.name}/" for one in with_images(class_level(own[0])) if split_of(one.name)], 3)
    who = (
        f"{_names(own)} in {root} {'holds' if len(own) == 1 else 'hold'} split folders ({splits}) of"
        f" {'its' if len(own) == 1 else 'their'} own"
    )
    others = [folder for folder in inner if folder not in own]
    beside = f", beside {_names(others)}" if others else ""
    raise DatasetError(f"{who}{beside}. Give one of them, e.g. {root / own[0].path}")


def _holds_splits(folder: Folder) -> bool:
    """Say whether two or more split folders with class folders inside lie in a folder."""
    level = class_level(folder)
    parts = [one for one in with_images(level) if split_of(one.name) and with_images(class_level(one))]
    return len({split_of(one.name) for one in parts}) >= 2


def _as_told(root: Path, level: Folder, inner: list[Folder], layout: str) -> Reading:
    if layout == "split-folders":
        raise DatasetError(
            f"--layout split-folders: {root} has no folders such as train/ and test/ that hold the same class"
            f" folders. It has: {_names(inner)}"
        )
    if layout == "class-folders":
        return _class_reading(root, level, inner)
    if not any(with_images(folder) for folder in inner):
        raise DatasetError(
            f"--layout inner-folders: no folders of images lie in the folders of {root} ({_names(inner)})."
        )
    return _inner_reading(root, level, inner)


def _names(folders: list[Folder]) -> str:
    return name_list([repr(folder.name) for folder in folders], 4)


def _inside_names(folder: Folder) -> set[str]:
    return {fold(inner.name) for inner in with_images(class_level(folder))}


def _same_names_inside(folders: list[Folder]) -> bool:
    sets = [_inside_names(folder) for folder in folders]
    shared, union = set.intersection(*sets), set.union(*sets)
    return len(shared) >= 2 and len(shared) >= 0.5 * len(union)


def _class_reading(root: Path, level: Folder, folders: list[Folder]) -> Reading:
    reading = Reading("class-folders", option="--layout class-folders")
    doubled = _doubled(folders)
    classes = [folder for folder in folders if not is_unlabelled(folder.name) and folder not in doubled]
    for folder in classes:
        _take(root, folder, clean_name(folder.name), None, reading)
    names = {fold(folder.name): clean_name(folder.name) for folder in classes}
    for inner in (one for folder in doubled for one in with_images(class_level(folder))):
        if fold(inner.name) in names:  # not the set a third time, nor images without labels: these are counted
            _take(root, inner, names[fold(inner.name)], None, reading)
    reading.classes = _in_order({clean_name(folder.name) for folder in classes})
    inside = f"{level.path}/" if level.path else ""
    reading.text = (
        f"each folder{f' in {inside}' if inside else ''} is a class: {name_list(reading.classes, 6)}"
        f" ({len(reading.samples):,} images)"
    )
    if doubled:
        reading.notes.append(
            f"{_names(doubled)} holds folders of the same names as those beside it: its"
            f" {sum(folder.total for folder in doubled):,} images were taken for these classes too. If they are copies,"
            " move it elsewhere"
        )
    _explain_class_folders(level, classes, reading)
    return reading


def _doubled(folders: list[Folder]) -> list[Folder]:
    """Find a folder that holds the whole set once more, as some archives do: cell_images/cell_images/."""
    found = []
    for folder in folders:
        inside = _inside_names(folder)
        beside = {fold(other.name) for other in folders if other is not folder}
        if len(inside) >= 2 and inside <= beside and not folder.images:
            found.append(folder)
    return found if len(folders) - len(found) >= 2 else []


def _explain_class_folders(level: Folder, classes: list[Folder], reading: Reading) -> None:
    odd = [folder for folder in classes if is_generic(folder.name)]
    if odd and len(odd) < len(classes):
        one = len(odd) == 1
        they = (
            "was taken as a class like the folders beside it; if it is none"
            if one
            else "were taken as classes like the folders beside them; if they are none"
        )
        reading.notes.append(f"{_names(odd)} {they}, move {'it' if one else 'them'} elsewhere")
    _explain_empty(level, reading)
    nested = _explain_nested(classes, reading)
    if nested:
        reading.notes[-1] += ". To tell the inner folders apart: --layout inner-folders"
    _explain_merged_names(classes, reading)
    twins = [" and ".join(map(repr, names)) for names in _by_fold(reading.classes).values() if len(names) > 1]
    if twins:
        reading.notes.append(
            f"these classes differ only in how they are written: {name_list(twins, 4)}. If they are one, put their images"
            " into one folder"
        )


def _explain_nested(folders: list[Folder], reading: Reading) -> bool:
    """Say which folders inside class folders were merged into the class."""
    nested = [folder for folder in folders if len(with_images(folder)) > 1 or (with_images(folder) and folder.images)]
    if not nested:
        return False
    shown = "; ".join(
        f"{folder.name} = {_own(folder)}{name_list([inner.name for inner in with_images(folder)], 4)}"
        for folder in nested[:3]
    )
    more = f" and {len(nested) - 3} more" if len(nested) > 3 else ""
    reading.notes.append(f"folders inside a class folder were merged into its class: {shown}{more}")
    return True


def _explain_merged_names(folders: list[Folder], reading: Reading) -> None:
    """Say which folders are one class although their names are written in different ways."""
    written: dict[str, set[str]] = {}
    for folder in folders:
        written.setdefault(fold(clean_name(folder.name)), set()).add(folder.name)
    for name, several in written.items():
        kept = {one for one in reading.classes if fold(one) == name}
        if len(several) > max(1, len(kept)):
            written_so = name_list(sorted(map(repr, several)))
            reading.notes.append(f"folders whose names differ only in how they are written are one class: {written_so}")


def _own(folder: Folder) -> str:
    return f"its own {len(folder.images):,} and " if folder.images else ""


def _explain_empty(level: Folder, reading: Reading) -> None:
    empty = [folder for folder in level.folders if not folder.total]
    if empty:
        they = "holds no images and is no class" if len(empty) == 1 else "hold no images and are no classes"
        reading.notes.append(f"{_names(empty)} {they}")
    unlabelled = [folder for folder in with_images(level) if is_unlabelled(folder.name)]
    for folder in unlabelled:
        reading.notes.append(
            f"{folder.path}/ was not used: its name says that its {folder.total:,} images have no labels"
        )


def _by_fold(names: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(fold(name), []).append(name)
    return found


def _in_order(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=natural))


def _take(root: Path, folder: Folder, label: str, split: Split | None, reading: Reading) -> None:
    """Add every image of a folder and below."""
    for path in images_below(folder):
        reading.samples.append(Sample(path, label, split, root / path))
        reading.used.add(path)
    for path, reason in foreign_below(folder):
        reading.set_aside.append(SetAside(file=path, reason=reason))
        reading.used.add(path)


def _inner_reading(root: Path, level: Folder, outer: list[Folder]) -> Reading:
    """Each folder one level below is a class; folders of one name are one class."""
    reading = Reading("inner-folders", option="--layout inner-folders")
    names: set[str] = set()
    for folder in outer:
        base = class_level(folder) if is_generic(folder.name) else folder
        for inner in with_images(base):
            if not is_unlabelled(inner.name):
                _take(root, inner, clean_name(inner.name), None, reading)
                names.add(clean_name(inner.name))
    reading.classes = _in_order(names)
    reading.text = (
        f"the folders inside {_names(outer)} are the classes: {name_list(reading.classes, 6)}"
        f" ({len(reading.samples):,} images)"
    )
    _explain_empty(level, reading)
    return reading


def _split_folders(root: Path, level: Folder) -> Reading | None:
    """Read train/<class>, test/<class>, or <class>/train, <class>/test; None if the folders are no splits."""
    inner = with_images(level)
    splits = splits_of(folder.name for folder in inner)
    tagged = [(folder, splits[folder.name]) for folder in inner if folder.name in splits]
    parts = [
        ClassFolders(base, split, with_images(base))
        for folder, split in tagged
        if with_images(base := class_level(folder))
    ]
    if not parts:
        return _splits_in_class_names(root, inner) or _splits_inside_classes(root, inner)
    parts, unlabelled = _without_unlabelled(parts)
    given = [
        ClassFolders(folder, split, with_images(folder)) for folder, split in tagged if folder.path not in unlabelled
    ]
    below = _below_what_counts(given, parts)
    parts = below or parts
    if len(parts) > 1 and not _any_shared(parts):
        if len(tagged) < len(inner):
            return None
        sides = "; ".join(f"{part.level.path}/ holds {_names(part.folders)}" for part in parts)
        raise DatasetError(
            f"The class folders of the splits in {root} have no name in common: {sides}. Give a class the"
            " same name in every split, or say what the folders are: --layout class-folders or --layout"
            " inner-folders"
        )
    untagged = [folder for folder in inner if split_of(folder.name) is None]
    flat = [folder for folder in untagged if not is_generic(folder.name) and not is_unlabelled(folder.name)]
    if len(flat) > 1:
        raise DatasetError(
            f"{root} is ambiguous: it holds split folders ({_names([folder for folder, _ in tagged])}) and"
            f" class folders ({_names(flat)}). Say which: --layout split-folders or --layout class-folders,"
            " or give the folder that holds only the one or only the other."
        )
    reading = _read_parts(root, tagged, parts, untagged)
    between = [folder for part in given for folder in part.folders] if below else []
    if between and not all(is_generic(folder.name) for folder in between):
        reading.notes.append(
            f"the folders {_names(between)} between split and class are no classes. If each is one subject,"
            " keep its images on one side of every split: --group-pattern '^[^/]+/([^/]+)/'"
        )
    return reading


def _without_unlabelled(parts: list[ClassFolders]) -> tuple[list[ClassFolders], set[str]]:
    """Leave out parts that hold a single folder, of no name that the training part has: test/unknown/, as Keras wants
    images without labels. Returns also their paths."""
    train = {fold(folder.name) for part in parts if part.split == "train" for folder in part.folders}
    alone = [
        part
        for part in parts
        if part.split != "train" and len(part.folders) == 1 and not ({fold(part.folders[0].name)} & train)
    ]
    if len(train) < 2:
        return parts, set()
    return [part for part in parts if part not in alone], {part.level.path for part in alone}


def _any_shared(parts: list[ClassFolders]) -> bool:
    seen: Counter[str] = Counter(name for part in parts for name in {fold(folder.name) for folder in part.folders})
    return any(number > 1 for number in seen.values())


def _below_what_counts(given: list[ClassFolders], parts: list[ClassFolders]) -> list[ClassFolders]:
    """Go down to the class folders where folders of batches, patients or days lie between: train/part_1/cat,
    test/patient7/sick.

    `given` are the split folders as they are, `parts` those with class folders inside. Returns nothing if
    none lie between.
    """
    given = [part for part in given if with_images(class_level(part.level))]
    below = [
        ClassFolders(part.level, part.split, [one for folder in part.folders for one in with_images(folder)])
        for part in given
    ]
    whole = all(with_images(folder) and not folder.images for part in given for folder in part.folders)
    names = [{fold(folder.name) for folder in part.folders} for part in below]
    if not whole or len(names[0]) < 2 or not all(one & names[0] for one in names):
        return []
    between = [folder.name for part in given for folder in part.folders]
    counts = all(is_generic(name) or is_series(name) for name in between)
    return below if counts or (len(parts) > 1 and not _any_shared(given)) else []


def _numbers_of_splits(reading: Reading) -> str:
    numbers = Counter(sample.split for sample in reading.samples)
    return ", ".join(f"{split} {numbers[split]:,}" for split in ("train", "validation", "test") if split in numbers)


def _splits_in_class_names(root: Path, inner: list[Folder]) -> Reading | None:
    """Read train_cat, train_dog, test_cat, test_dog."""
    found = [(folder, told) for folder in inner if (told := split_and_class(folder.name))]
    classes: dict[str, set[str]] = {}
    for _, (split, name) in found:
        classes.setdefault(split, set()).add(fold(name))
    if len(found) < len(inner) or len(classes) < 2 or "train" not in classes or len(classes["train"]) < 2:
        return None
    if any(names != classes["train"] for names in classes.values()):
        return None
    reading = Reading("split-folders", option="--layout split-folders")
    for folder, (split, name) in found:
        _take(root, folder, clean_name(name), split, reading)
    reading.classes = _in_order({clean_name(name) for _, (_, name) in found})
    said = _numbers_of_splits(reading)
    reading.text = (
        f"the names of the folders give split and class, e.g. {found[0][0].name}/:"
        f" {name_list(reading.classes, 6)} ({said} images)"
    )
    return reading


def _read_parts(
    root: Path, tagged: list[tuple[Folder, Split]], parts: list[ClassFolders], untagged: list[Folder]
) -> Reading:
    reading = Reading("split-folders", option="--layout split-folders")
    train = {
        fold(folder.name): clean_name(folder.name)
        for part in parts
        if part.split == "train"
        for folder in part.folders
        if not is_unlabelled(folder.name)
    }
    if not train:
        raise DatasetError(
            f"{root} has split folders ({_names([f for f, _ in tagged])}) but no training images. Expected"
            " train/<class>/ folders."
        )
    seen: dict[str, Counter[str]] = {}
    strangers: dict[str, int] = {}
    for part in parts:
        numbers = seen.setdefault(str(part.split), Counter())
        for folder in part.folders:
            label = train.get(fold(folder.name))
            if label is not None:
                before = len(reading.samples)
                _take(root, folder, label, part.split, reading)
                numbers[label] += len(reading.samples) - before
            else:
                strangers[clean_name(folder.name)] = strangers.get(clean_name(folder.name), 0) + folder.total
                for path in images_below(folder):
                    reading.set_aside.append(SetAside(file=path, reason="its class has no training images"))
                    reading.used.add(path)
    reading.classes = _in_order(set(train.values()))
    names = {
        split: [f"{folder.path}/" for folder, s in tagged if s == split] for split in ("train", "validation", "test")
    }
    said = [
        f"{name_list(names[split], 3)} {'is' if len(names[split]) == 1 else 'are'} the"
        f" {split if split != 'train' else 'training'} part ({sum(numbers.values()):,} images)"
        for split, numbers in seen.items()
    ]
    reading.text = f"{'; '.join(said)}; the folders inside are the classes: {name_list(reading.classes, 6)}"
    if strangers:
        reading.notes.append(
            "classes without training images were set aside:"
            f" {name_list([f'{name} ({n})' for name, n in strangers.items()], 5)}"
        )
    for part in parts:
        _explain_nested(part.folders, reading)
        _explain_merged_names(part.folders, reading)
    _explain_rest(tagged, parts, untagged, reading)
    _explain_empty_parts(parts, reading)
    return reading


def _explain_rest(
    tagged: list[tuple[Folder, Split]], parts: list[ClassFolders], untagged: list[Folder], reading: Reading
) -> None:
    read = {part.level.path for part in parts}
    for folder, _ in tagged:
        if not {class_level(folder).path, folder.path} & read:
            reading.unused[f"images in {folder.path}/, which has no class folders"] = folder.total
            reading.notes.append(
                f"{folder.path}/ has no class folders: its"
                f" {count(folder.total, 'image has no label and is', 'images have no labels and are')} not"
                " used"
            )
        elif folder.path not in read and folder.images:
            reading.notes.append(
                f"{count(len(folder.images), 'image', 'images')} directly in {folder.path}/ have no label"
            )
    for folder in untagged:
        reading.unused[f"images in {folder.path}/, which is no split"] = folder.total
        reading.notes.append(
            f"the folder {folder.path!r} beside {_names([f for f, _ in tagged])} is not a split: its"
            f" {count(folder.total, 'image was', 'images were')} not used"
        )


def _explain_empty_parts(parts: list[ClassFolders], reading: Reading) -> None:
    for part in parts:
        empty = [folder for folder in part.level.folders if not folder.total]
        if empty and part.split == "train":
            reading.notes.append(
                f"{_names(empty)} in {part.level.path}/ {'holds' if len(empty) == 1 else 'hold'} no images"
            )


def _splits_inside_classes(root: Path, inner: list[Folder]) -> Reading | None:
    """Read <class>/train, <class>/test."""
    if len(inner) < 2 or any(folder.images for folder in inner):
        return None
    pairs = [(folder, part, split_of(part.name)) for folder in inner for part in with_images(folder)]
    splits = {split for _, _, split in pairs}
    if None in splits or len(splits) < 2 or "train" not in splits or all(split_of(folder.name) for folder in inner):
        return None
    if any(with_images(class_level(part)) for _, part, _ in pairs):
        return None  # <category>/test/<kind of defect>
    reading = Reading("split-folders", option="--layout split-folders")
    for folder, part, split in pairs:
        _take(root, part, clean_name(folder.name), split, reading)
    reading.classes = _in_order({clean_name(folder.name) for folder in inner})
    said = _numbers_of_splits(reading)
    reading.text = (
        f"each folder is a class ({name_list(reading.classes, 6)}), and the folders inside are its splits"
        f" ({said} images)"
    )
    return reading
