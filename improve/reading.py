"""The commands that look at runs and use what they have made: runs, show, report, predict, replay, export, doctor."""

import os
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from improve.app import AsJson, RunName, app, open_store
from improve.terminal import open_console, say, say_json, say_wrapped
from schema.errors import ImproveError, InputError
from schema.text import one_line


@app.command()
def runs(
    prune: Annotated[
        bool, typer.Option("--prune", help="Keep only the latest checkpoint of each run, and give the room back")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """All runs with their status, best scores and sizes."""
    from checkpoints.retention import database_sizes
    from improve.show import listed_runs, readable_bytes

    if prune:
        _prune(as_json=as_json)
        return
    listed, sizes = listed_runs(open_store()), database_sizes()
    if as_json:
        say_json({"runs": listed, "databases": sizes})
        return
    if not listed:
        say("There is no run yet: improve run FOLDER, or improve demo")
    for item in listed:
        score = "" if item["test"] is None else f"test {item['metric']} {item['test']:.4f}"
        size = readable_bytes(item["bytes"])
        say(
            f"{item['run']:<24} {item['status']:<9} {item['created'][:16]}  {score:<20} {size:>9}  {one_line(item['dataset'], 300)}"
        )
    say("data bases: " + " · ".join(f"{where} {readable_bytes(size)}" for where, size in sizes.items()))


def _prune(*, as_json: bool) -> None:
    from checkpoints.retention import prune_runs
    from improve.show import readable_bytes

    done = prune_runs()
    if as_json:
        say_json(asdict(done))
        return
    say(
        f"checkpoints: {readable_bytes(done.before)} before, {readable_bytes(done.after)} now · the latest one is kept of {len(done.runs)} runs"
    )
    if done.driven:
        say(f"left alone, since a process drives them: {', '.join(done.driven)}")


@app.command()
def show(
    name: RunName,
    costs: Annotated[
        bool, typer.Option("--costs", help="What the language models took, and the paper's cost model")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One run: scores, what was tried, where things are."""
    from improve.data_summary import summary_lines
    from improve.show import as_json as in_json
    from improve.show import class_lines, final_line, ledger_table
    from nodes.environment import described
    from nodes.score_notes import claim, score_notes, what_happened

    store = open_store()
    if costs:
        _show_costs(name, as_json=as_json)
        return
    facts = in_json(name, store)
    if as_json:
        say_json(facts, indent=2)
        return
    row = store.run(name)
    reason = f" ({one_line(row.reason, 1000)})" if row.reason else ""
    say(f"run {name}: {facts['status']}{reason} · sandbox {row.sandbox}")
    for line in summary_lines(row.profile) if row.profile else []:
        say(line)
    console = open_console(wide=True)
    console.print(ledger_table(name, store, console.width))
    for line in described(row.environment) if row.environment else []:
        say(line)
    for label in ("script", "weights", "report"):
        say(f"{label}: {facts['paths'][label] or 'not yet'}")
    told = [*class_lines(row), *score_notes(row), what_happened(row, store.ledger(name)), claim(row)]
    for line in filter(None, told):
        say_wrapped(line)
    say(final_line(row))


def _show_costs(name: str, *, as_json: bool) -> None:
    from improve.costs import cost_model, costs_text

    store = open_store()
    found = cost_model(store.run(name), store.ledger(name), store.calls(name))
    if as_json:
        say_json(found.model_dump(mode="json"), indent=2)
    else:
        say(costs_text(found))


@app.command()
def report(name: RunName) -> None:
    """The report of a finished run, as Markdown."""
    from improve.api import load

    path = load(name).report
    if not path.exists():
        raise InputError(f"Run {name!r} has no report yet. Finish it: improve resume {name}")
    say(path.read_text(encoding="utf-8"))


@app.command()
def predict(
    name: RunName,
    images: Annotated[
        list[str], typer.Argument(help="Files, folders, patterns; - for a list of paths on standard input")
    ],
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write a table; - for standard output")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Tell so many classes of each image, the best first")] = None,
    sandbox: Annotated[str | None, typer.Option(help="Another isolation tier than the run's")] = None,
    as_json: AsJson = False,
) -> None:
    """Classes of new images, with the run's winner."""
    from improve import prediction_text as text
    from improve.image_files import images_given
    from improve.predict import predict as predict_files
    from improve.predict import winner_of

    if csv_file and as_json:
        raise InputError("--csv and --json: choose one of the two.")
    winner = winner_of(name, open_store(), sandbox)
    given = images_given(images, sys.stdin.buffer.read)
    for note in [*winner.device.notes, *given.notes]:
        say(one_line(note, 1000), err=True)
    bad = 0
    with (
        text.table_at(csv_file or "-") as out,
        text.progress_bar(len(given.files)) as told,
        closing(predict_files(winner, given.files, told)) as found,
    ):
        if csv_file:
            written = text.write_csv(found, out, winner.profile.classes, top)
        else:
            written = text.write_json(found, out, top) if as_json else text.write_lines(found, out, top)
        for one in written:
            bad += one.problem is not None
            if one.problem and not as_json:
                say(f"{text.shown_name(one)}: {one_line(one.problem, 300)}", err=True)
        if bad == len(given.files):
            raise InputError("None of the images could be read.")
    if bad:
        say(f"{bad:,} of {len(given.files):,} files could not be read; the others are predicted.", err=True)


@app.command()
def replay(
    name: RunName,
    iteration: Annotated[int | None, typer.Option(help="Another iteration than the winner's")] = None,
    sandbox: Annotated[str | None, typer.Option(help="Another isolation tier than the run's")] = None,
    data: Annotated[str | None, typer.Option(help="Where the images are now, should the prepared ones be gone")] = None,
    as_json: AsJson = False,
) -> None:
    """Train the winner once more as it was trained, and compare: the same predictions, the same score?"""
    from improve.replay import replay as replay_run
    from improve.replayed import replay_lines
    from improve.view import watching

    store = open_store()
    with watching(store.run(name).settings, as_json=as_json) as view:
        found = replay_run(name, iteration, store, sandbox=sandbox, data=data, on_event=view.show)
    if as_json:
        say_json(found.model_dump(mode="json"))
    for line in [] if as_json else replay_lines(found):
        say(line)
    if not found.confirmed:
        raise typer.Exit(1)


@app.command()
def export(name: RunName, to: Annotated[Path, typer.Option(help="A new or empty folder")]) -> None:
    """Copy the winner's script and weights, with all that using them needs."""
    from improve.export import export as export_run

    for path in export_run(name, to, open_store()):
        say(one_line(str(path), 1000))


@app.command()
def doctor() -> None:
    """Is this machine ready?"""
    from improve.doctor import findings

    bad = 0
    for finding in findings(os.environ.get("IMPROVE_WEIGHTS")):
        say(f"{'ok   ' if finding.ok else 'WRONG'} {finding.text}")
        bad += not finding.ok
    if bad:
        raise ImproveError(f"{bad} things to mend before a run.")
