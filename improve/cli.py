"""The `improve` command. Imports of substance happen inside the commands, so that --help comes at once."""

import json
import os
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schema.errors import ImproveError, InputError, RunStopped, SettingsError

if TYPE_CHECKING:
    from schema.settings import Settings

app = typer.Typer(
    name="improve",
    help="Turns a folder of labelled images into a trained classifier, one component at a time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
AsJson = Annotated[bool, typer.Option("--json", help="For machines: JSON instead of text")]
RoleModel = Annotated[str | None, typer.Option(help="Another language model for this role")]
Gpus = Annotated[
    str | None, typer.Option(help="GPUs that this run may use, by nvidia-smi's numbers or UUIDs: 0,2 [default: all]")
]
JobsPerGpu = Annotated[int | None, typer.Option(help="Trainings at the same time on one GPU [default: 1]")]
JobsPerCpu = Annotated[
    int | None, typer.Option(help="Trainings at the same time on the CPU, those of other runs too [default: 1]")
]
RunName = Annotated[str, typer.Argument(help="Name of a run; `improve runs` lists them")]


def duration(text: str, option: str) -> float:
    """Seconds of 90s, 20m, 1h30m, or a plain number. Raises SettingsError."""
    match = DURATION.fullmatch(text.strip())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0.0
    )
    if seconds <= 0:
        raise SettingsError(f"{option} {text!r} is not a duration. Expected e.g. 90s, 20m, 1h30m, or seconds.")
    return seconds


@app.command()
def run(
    data: Annotated[str, typer.Argument(help="Folder, archive, .npz or CSV of labelled images, or a torchvision name")],
    describe: Annotated[str, typer.Option(help="What the images show, in your own words")] = "",
    model: Annotated[
        str, typer.Option(help="Who writes the code: playbook, or a language model such as openai:gpt-5.4-mini")
    ] = "playbook",
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible server: vLLM, Ollama, llama.cpp, Azure ...")
    ] = None,
    architect_model: RoleModel = None,
    data_engineer_model: RoleModel = None,
    model_engineer_model: RoleModel = None,
    training_engineer_model: RoleModel = None,
    analyst_model: RoleModel = None,
    summariser_model: RoleModel = None,
    iterations: Annotated[int, typer.Option(help="Changes to try after the first pipeline")] = 20,
    budget: Annotated[str | None, typer.Option(help="Time for the whole run: 2h, 45m")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of language models for the whole run")] = None,
    max_cost: Annotated[float | None, typer.Option(help="US dollars of language models for the whole run")] = None,
    train_limit: Annotated[str, typer.Option(help="Time for one training: 20m, 90s")] = "20m",
    strategy: Annotated[str, typer.Option(help="iterative, global or zero-shot")] = "iterative",
    init: Annotated[str, typer.Option(help="unified or bottom-up")] = "unified",
    accept: Annotated[str, typer.Option(help="When a change is kept: expected, paired or better")] = "expected",
    metric: Annotated[
        str, typer.Option(help="accuracy, balanced_accuracy, macro_f1, auroc, log_loss or quadratic_kappa")
    ] = "accuracy",
    select_on: Annotated[
        str, typer.Option(help="validation, or test (the paper's protocol; optimistic)")
    ] = "validation",
    target: Annotated[float | None, typer.Option(help="Stop at this validation score")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the trainings")] = 0,
    max_seeds: Annotated[int, typer.Option(help="Trainings per pipeline where a comparison is undecided")] = 2,
    labels: Annotated[str | None, typer.Option(help="CSV of file and label")] = None,
    file_column: Annotated[str | None, typer.Option(help="Its column of file names")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column of labels")] = None,
    weights_dir: Annotated[
        str | None, typer.Option(help="Folder of safetensors files named after timm models (or IMPROVE_WEIGHTS)")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    gpus: Gpus = None,
    jobs_per_gpu: JobsPerGpu = None,
    jobs_per_cpu: JobsPerCpu = None,
    sandbox: Annotated[
        str, typer.Option(help="Isolation of generated code: auto (the best that works), bwrap, landlock or none")
    ] = "auto",
    review: Annotated[
        bool, typer.Option("--review", help="Ask before each training: approve, edit the proposal, or skip")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a classifier from DATA and keep improving it."""
    from schema.settings import make_settings

    by_role = {
        "architect": architect_model,
        "data": data_engineer_model,
        "model": model_engineer_model,
        "training": training_engineer_model,
        "analyst": analyst_model,
        "summariser": summariser_model,
    }
    settings = make_settings(
        {
            "dataset": data,
            "describe": describe,
            "model": model,
            "base_url": base_url,
            "role_models": {role: one for role, one in by_role.items() if one},
            "max_tokens": max_tokens,
            "max_cost": max_cost,
            "iterations": iterations,
            "budget_seconds": duration(budget, "--budget") if budget else None,
            "train_seconds": duration(train_limit, "--train-limit"),
            "strategy": strategy,
            "init": init,
            "accept": accept,
            "metric": metric,
            "select_on": select_on,
            "target": target,
            "seed": seed,
            "max_seeds": max_seeds,
            "labels": labels,
            "file_column": file_column,
            "label_column": label_column,
            "weights_dir": weights_dir or os.environ.get("IMPROVE_WEIGHTS"),
            "device": device,
            "tier": sandbox,
            "review": review,
            **_line(gpus, jobs_per_gpu, jobs_per_cpu),
        }
    )
    _start(settings, name, as_json=as_json)


@app.command()
def demo(as_json: AsJson = False) -> None:
    """The main job on scikit-learn's 1,797 handwritten digits: a few minutes, no download."""
    from checkpoints.home import fresh_name
    from schema.settings import make_settings

    if not as_json:
        typer.echo(
            "A run on scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, ten classes, a few minutes on two cores."
        )
        typer.echo("The playbook writes the code here: curated moves, not a language model.")
    settings = make_settings({"dataset": "digits", "iterations": 6, "train_seconds": 15.0, "budget_seconds": 170.0})
    _start(settings, fresh_name("demo", [row.name for row in _store().runs()]), as_json=as_json)


def _line(gpus: str | None, jobs_per_gpu: int | None, jobs_per_cpu: int | None) -> dict[str, Any]:
    """What was given of where trainings stand in line."""
    entries = None if gpus is None else tuple(entry.strip() for entry in gpus.split(",") if entry.strip())
    given = {"gpus": entries, "jobs_per_gpu": jobs_per_gpu, "jobs_per_cpu": jobs_per_cpu}
    return {key: value for key, value in given.items() if value is not None}


def _start(settings: "Settings", name: str | None, *, as_json: bool) -> None:
    from graph.run import run as run_graph
    from improve.review import on_terminal
    from improve.view import watching

    with watching(settings, as_json=as_json) as view:
        made = run_graph(settings, name=name, on_event=view.show, on_review=lambda asked: on_terminal(asked, view))
    _conclude(made, as_json=as_json)


@app.command()
def resume(
    name: RunName,
    iterations: Annotated[int | None, typer.Option(help="A new number of iterations")] = None,
    budget: Annotated[str | None, typer.Option(help="A new time for the whole run: 2h, 45m")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="A new number of tokens for the whole run")] = None,
    max_cost: Annotated[float | None, typer.Option(help="New US dollars for the whole run")] = None,
    sandbox: Annotated[str | None, typer.Option(help="Go on in another isolation tier than the run began in")] = None,
    data: Annotated[str | None, typer.Option(help="Where the images are now")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although code, images or machine have changed since")
    ] = False,
    gpus: Gpus = None,
    jobs_per_gpu: JobsPerGpu = None,
    jobs_per_cpu: JobsPerCpu = None,
    review: Annotated[
        bool | None, typer.Option("--review/--no-review", help="Ask before each training, or do not any more")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a stopped run, or give a finished one more."""
    more = _more(iterations, budget, max_tokens, max_cost) | _line(gpus, jobs_per_gpu, jobs_per_cpu)
    _go_on(name, more | {"review": review}, sandbox, data, force=force, as_json=as_json)


@app.command()
def fork(
    name: RunName,
    iteration: Annotated[int, typer.Option(help="The new run begins where this one was settled")],
    new_name: Annotated[str | None, typer.Option("--name", help="Of the new run")] = None,
    iterations: Annotated[int | None, typer.Option(help="Another number of iterations")] = None,
    budget: Annotated[str | None, typer.Option(help="Another time for the whole run: 2h, 45m")] = None,
    review: Annotated[bool | None, typer.Option("--review/--no-review", help="Ask before each training")] = None,
    as_json: AsJson = False,
) -> None:
    """A new run that goes its own way from an earlier iteration of another, which stays as it is."""
    from graph.fork import fork as fork_graph

    more = _more(iterations, budget, None, None) | {"review": review}
    _go_on(fork_graph(name, iteration, new_name), more, None, None, force=False, as_json=as_json)


def _more(iterations: int | None, budget: str | None, max_tokens: int | None, max_cost: float | None) -> dict[str, Any]:
    seconds = duration(budget, "--budget") if budget else None
    return {"iterations": iterations, "budget_seconds": seconds, "max_tokens": max_tokens, "max_cost": max_cost}


def _go_on(
    name: str, more: dict[str, Any], sandbox: str | None, data: str | None, *, force: bool, as_json: bool
) -> None:
    from graph.run import resume as resume_graph
    from improve.review import on_terminal
    from improve.view import watching

    changes = {key: value for key, value in more.items() if value is not None}
    with watching(_store().run(name).settings.model_copy(update=changes), as_json=as_json) as view:
        resume_graph(
            name,
            **changes,
            sandbox=sandbox,
            data=data,
            force=force,
            on_event=view.show,
            on_review=lambda asked: on_terminal(asked, view),
        )
    _conclude(name, as_json=as_json)


def _conclude(name: str, *, as_json: bool) -> None:
    from improve.show import as_json as in_json
    from improve.show import final_line, ledger_table

    store = _store()
    row = store.run(name)
    if row.status == "failed":
        raise ImproveError(f"Run {name!r} failed: {row.reason}")
    if as_json:
        typer.echo(json.dumps(in_json(name, store)))
        return
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(ledger_table(name, store))
    typer.echo(f"use it: improve predict {name} IMAGE...   take it home: improve export {name} --to DIR")
    typer.echo(final_line(row))


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
    listed, sizes = listed_runs(_store()), database_sizes()
    if as_json:
        typer.echo(json.dumps({"runs": listed, "databases": sizes}))
        return
    if not listed:
        typer.echo("There is no run yet: improve run FOLDER, or improve demo")
    for item in listed:
        score = "" if item["test"] is None else f"test {item['metric']} {item['test']:.4f}"
        size = readable_bytes(item["bytes"])
        typer.echo(
            f"{item['run']:<24} {item['status']:<9} {item['created'][:16]}  {score:<20} {size:>9}  {item['dataset']}"
        )
    typer.echo("data bases: " + " · ".join(f"{where} {readable_bytes(size)}" for where, size in sizes.items()))


def _prune(*, as_json: bool) -> None:
    from checkpoints.retention import prune_runs
    from improve.show import readable_bytes

    done = prune_runs()
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(
        f"checkpoints: {readable_bytes(done.before)} before, {readable_bytes(done.after)} now · the latest one is kept of {len(done.runs)} runs"
    )
    if done.driven:
        typer.echo(f"left alone, since a process drives them: {', '.join(done.driven)}")


@app.command()
def show(
    name: RunName,
    costs: Annotated[
        bool, typer.Option("--costs", help="What the language models took, and the paper's cost model")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One run: scores, what was tried, where things are."""
    from rich.console import Console

    from improve.show import as_json as in_json
    from improve.show import final_line, ledger_table
    from improve.view import dataset_lines
    from nodes.environment import described

    store = _store()
    if costs:
        _show_costs(name, as_json=as_json)
        return
    facts = in_json(name, store)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    row = store.run(name)
    typer.echo(f"run {name}: {facts['status']}{f' ({row.reason})' if row.reason else ''} · sandbox {row.sandbox}")
    for line in dataset_lines(row.profile) if row.profile else []:
        typer.echo(line)
    Console(width=None if sys.stdout.isatty() else 180).print(ledger_table(name, store))
    for line in described(row.environment) if row.environment else []:
        typer.echo(line)
    for label in ("script", "weights", "report"):
        typer.echo(f"{label}: {facts['paths'][label] or 'not yet'}")
    typer.echo(final_line(row))


def _show_costs(name: str, *, as_json: bool) -> None:
    from improve.costs import cost_model, costs_text

    store = _store()
    found = cost_model(store.run(name), store.ledger(name), store.calls(name))
    typer.echo(json.dumps(found.model_dump(mode="json"), indent=2) if as_json else costs_text(found))


@app.command()
def report(name: RunName) -> None:
    """The report of a finished run, as Markdown."""
    from improve.api import load

    path = load(name).report
    if not path.exists():
        raise InputError(f"Run {name!r} has no report yet. Finish it: improve resume {name}")
    typer.echo(path.read_text(encoding="utf-8"))


@app.command()
def predict(
    name: RunName,
    images: Annotated[list[Path], typer.Argument(help="Image files")],
    sandbox: Annotated[str | None, typer.Option(help="Another isolation tier than the run's")] = None,
    as_json: AsJson = False,
) -> None:
    """Classes of new images, with the run's winner."""
    from improve.predict import predict as predict_images
    from improve.view import clean

    found = predict_images(name, images, _store(), sandbox)
    if as_json:
        rows: list[dict[str, Any]] = [
            {"file": str(p.file), "problem": p.problem, "classes": dict(p.classes)} for p in found
        ]
        typer.echo(json.dumps(rows))
    for p in [] if as_json else found:
        text = p.problem or "  ".join(f"{clean(label)} {share:.2f}" for label, share in p.classes[:3])
        typer.echo(f"{p.file}  {text}")
    if all(p.problem for p in found):
        raise InputError("None of the images could be read.")


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

    store = _store()
    with watching(store.run(name).settings, as_json=as_json) as view:
        found = replay_run(name, iteration, store, sandbox=sandbox, data=data, on_event=view.show)
    if as_json:
        typer.echo(json.dumps(found.model_dump(mode="json")))
    for line in [] if as_json else replay_lines(found):
        typer.echo(line)
    if not found.confirmed:
        raise typer.Exit(1)


@app.command()
def export(name: RunName, to: Annotated[Path, typer.Option(help="A new or empty folder")]) -> None:
    """Copy the winner's script and weights, with all that using them needs."""
    from improve.export import export as export_run

    for path in export_run(name, to, _store()):
        typer.echo(str(path))


@app.command()
def doctor() -> None:
    """Is this machine ready?"""
    from improve.doctor import findings

    bad = 0
    for finding in findings(os.environ.get("IMPROVE_WEIGHTS")):
        typer.echo(f"{'ok   ' if finding.ok else 'WRONG'} {finding.text}")
        bad += not finding.ok
    if bad:
        raise ImproveError(f"{bad} things to mend before a run.")


def _store() -> Any:
    from checkpoints.store import open_store

    return open_store()


def main() -> None:
    """Exit codes: 0 done, 1 fault, 2 usage or input, 3 stopped and resumable. A person's mistake shows no traceback; a bug does."""
    from improve.doctor import shadowed

    try:
        if taken := shadowed():
            raise ImproveError(
                f"Other packages shadow IMPROVE's folders: {', '.join(taken)}. Install IMPROVE in an environment of its own."
            )
        app()
    except RunStopped as stop:
        typer.echo(str(stop), err=True)
        if stop.run:
            offer_to_end(stop.run)
        sys.exit(stop.exit_code)
    except ImproveError as error:
        typer.echo(f"improve: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        from checkpoints.trouble import trouble

        found = trouble(error)
        if found is None:
            raise
        typer.echo(f"improve: {found.text}", err=True)
        sys.exit(InputError.exit_code)


def offer_to_end(name: str) -> None:
    """A second Ctrl-C within three seconds ends the run's training, which would go on by itself. Resuming begins it anew."""
    from checkpoints.home import run_dir
    from sandbox import job

    states = {path.parent: job.status(path.parent).state for path in run_dir(name).glob("iterations/*/jobs/*/job.json")}
    running = [directory for directory, state in states.items() if state in {"running", "waiting"}]
    if not running or not sys.stdin.isatty():
        return
    goes_on = "goes on" if "running" in states.values() else "stays in line"
    typer.echo(
        f"A training {goes_on} in the background and is read on resume. Ctrl-C within 3 s ends it now.", err=True
    )
    try:
        time.sleep(3)
    except KeyboardInterrupt:
        for directory in running:
            job.stop(directory)


if __name__ == "__main__":
    main()
