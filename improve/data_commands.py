"""The command that looks at images and trains nothing: inspect."""

import json
import shlex
import sys
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from improve.app import AsJson, app
from improve.data_options import (
    Dataset,
    DropRareClasses,
    FileColumn,
    GroupColumn,
    GroupPattern,
    ImageSize,
    LabelColumn,
    LabelPattern,
    Labels,
    LayoutOption,
    reading_fields,
)
from schema.settings import option_of


@app.command()
def inspect(
    context: typer.Context,
    dataset: Dataset,
    labels: Labels = None,
    file_column: FileColumn = None,
    label_column: LabelColumn = None,
    layout: LayoutOption = None,
    label_pattern: LabelPattern = None,
    group_column: GroupColumn = None,
    group_pattern: GroupPattern = None,
    image_size: ImageSize = None,
    drop_rare_classes: DropRareClasses = False,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page of thumbnails: classes, copies, set aside"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """How DATA is read, what is in it, and what is not used. Nothing is trained."""
    from rich.console import Console

    from checkpoints.home import prepare_home
    from improve.contact_sheet import contact_sheet
    from improve.data_summary import as_json as in_json
    from improve.data_summary import class_table, full_lines
    from improve.output_file import output_file
    from improve.view import preparing_shown
    from nodes.data import discovered, located, prepared, preparing
    from sandbox.hardware import hardware
    from schema.settings import make_settings

    given = reading_fields(context.params)
    settings = located(make_settings(given))
    prepare_home()
    with output_file("--html", html, (".html", ".htm")) if html else nullcontext() as page:
        listing = discovered(settings)
        with preparing_shown(settings) as show:
            profile = prepared(listing, settings, hardware("auto"), preparing(show))
        if page:
            page.write(contact_sheet(profile, listing.root))
    if as_json:
        typer.echo(json.dumps(in_json(profile), indent=2))
        return
    for line in full_lines(profile):
        typer.echo(line)
    Console(width=None if sys.stdout.isatty() else 180).print(class_table(profile))
    if html:
        typer.echo(f"contact sheet: {html}")
    typer.echo(f"Nothing was trained. Train on this: {run_command(given)}")


def run_command(given: dict[str, Any]) -> str:
    """Spell the run of the same data, as a person types it."""
    words = ["improve", "run", str(given["dataset"])]
    for field, value in given.items():
        if field != "dataset" and value is not None and value is not False:
            words += [option_of(field)] if value is True else [option_of(field), str(value)]
    return shlex.join(words)
