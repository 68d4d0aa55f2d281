"""The command itself, to which the other modules add theirs. Imports of substance happen inside the commands, so that --help comes at once."""

from typing import Annotated, Any

import typer

from improve.terminal import say


def _tell_version(*, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"improve {version('improve')}")
        raise typer.Exit


app = typer.Typer(
    name="improve",
    help="Turns a folder of labelled images into a trained classifier, one component at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="For machines: JSON instead of text")]
RunName = Annotated[str, typer.Argument(help="Name of a run; `improve runs` lists them")]


@app.callback()
def every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Tell the version, and no more",
            is_eager=True,
            callback=lambda asked: _tell_version(asked=asked),
        ),
    ] = False,
) -> None:
    pass


def open_store() -> Any:
    from checkpoints import store

    return store.open_store()
