"""Options that say how the images are to be read: the same for every command that reads images."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

Dataset = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder, archive, .npz or table of labelled images, or a torchvision name")
]
Labels = Annotated[str | None, typer.Option(help="Table of file and label: .csv, .tsv, .txt, .xlsx or .jsonl")]
FileColumn = Annotated[str | None, typer.Option(help="Its column of file names")]
LabelColumn = Annotated[str | None, typer.Option(help="Its column of labels")]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="How to read the folder, if two readings are plausible: class-folders, inner-folders, split-folders, table or file-names",
    ),
]
LabelPattern = Annotated[
    str | None, typer.Option(help="Regular expression on file names; its first group is the label: '^(cat|dog)'")
]
GroupColumn = Annotated[
    str | None,
    typer.Option("--group", help="Column of the table: images with equal values stay on one side of every split"),
]
GroupPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression on file paths: images whose first group is equal stay on one side"),
]
ImageSize = Annotated[
    int | None, typer.Option(help="Longer side of the stored images in pixels [default: from the data]")
]
DropRareClasses = Annotated[
    bool, typer.Option("--drop-rare-classes", help="Leave out classes with too few images, instead of stopping")
]

# The parameters of a command that have these types are called as the fields of Settings.
FIELDS = (
    "dataset",
    "labels",
    "file_column",
    "label_column",
    "layout",
    "label_pattern",
    "group_column",
    "group_pattern",
    "image_size",
    "drop_rare_classes",
)


def reading_fields(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a command's parameters what says how the images are to be read."""
    return {field: parameters[field] for field in FIELDS}
