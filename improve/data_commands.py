"""The command that looks at images and trains nothing: inspect."""

import inspect as signatures
import os
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from improve.app import AsJson, app
from improve.driving import run
from improve.run_settings import settings_of
from improve.terminal import open_console, say, say_json
from schema.settings import option_of

if TYPE_CHECKING:
    from schema.settings import Settings

# Fields of Settings that say how the images are read; the other options of `run` are accepted, and not shown in --help.
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


def taking_options_of(other: Callable[..., None]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the parameters of another one, so that the same line can be typed with either word."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own, hints = signatures.signature(function).parameters, get_type_hints(function, include_extras=True)
        theirs = get_type_hints(other, include_extras=True)
        parameters = [own["context"]]
        for name, parameter in signatures.signature(other).parameters.items():
            if name not in own:
                kind, option = get_args(theirs[name])
                option = copy(option)
                option.hidden = name not in FIELDS
                hints[name] = Annotated[kind, option]
                parameters.append(parameter.replace(annotation=hints[name]))
        parameters += [parameter for name, parameter in own.items() if name not in {"context", "given"}]
        function.__signature__ = signatures.Signature(parameters)  # type: ignore[attr-defined]
        function.__annotations__ = {parameter.name: hints[parameter.name] for parameter in parameters}
        return function

    return decorate


@app.command()
@taking_options_of(run)
def inspect(
    context: typer.Context,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page of thumbnails: classes, copies, set aside"),
    ] = None,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """How DATA is read, what is in it, and what is not used.

    Nothing is trained.
    """
    from improve.contact_sheet import contact_sheet
    from improve.data_summary import as_json as in_json
    from improve.data_summary import class_table, full_lines, look_at_data
    from improve.output_file import output_file
    from improve.view import preparing_shown
    from nodes.decoding import decoders_in

    settings = settings_of(context.params)
    with output_file("--html", html, (".html", ".htm")) if html else nullcontext() as page:
        with preparing_shown(settings) as show:
            look = look_at_data(settings, show)
        profile = look.profile
        if page:
            with decoders_in(look.tier) as decoders:
                page.write(contact_sheet(profile, look.root, decoders))
    if as_json:
        say_json(in_json(profile), indent=2)
        return
    for line in full_lines(profile):
        say(line)
    open_console(wide=True).print(class_table(profile))
    if html:
        say(f"contact sheet: {html}")
    say(f"Nothing was trained. Train on this: {run_command(settings)}")


def run_command(settings: "Settings") -> str:
    """Spell the run of the same data, as a person types it."""
    words = ["improve", "run", settings.dataset]
    for field in FIELDS[1:]:
        value = getattr(settings, field)
        if value is not None and value is not False:
            words += [option_of(field)] if value is True else [option_of(field), str(value)]
    return " ".join(map(shell_word, words))


def shell_word(word: str) -> str:
    """Quote a word for a shell; one that cannot be shown as it is, in the bytes that bash makes it of again."""
    if word.isprintable():
        return shlex.quote(word)
    safe = (chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(safe)}'"
