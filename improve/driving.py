"""The commands that drive a run: run, demo, resume, fork."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from improve.app import AsJson, RunName, app, open_store
from improve.run_settings import queue_fields, seconds_of, settings_of, use_env_file
from improve.terminal import open_console, say, say_json, say_wrapped
from schema.errors import ImproveError
from schema.text import one_line

if TYPE_CHECKING:
    from schema.settings import Settings

EnvFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="File with keys of language models, in lines such as OPENAI_API_KEY=..."),
]
RoleOrders = Annotated[str | None, typer.Option(metavar="TEXT", help="Orders for this role alone")]
RoleModel = Annotated[str | None, typer.Option(help="Another language model for this role")]
Gpus = Annotated[
    str | None, typer.Option(help="GPUs that this run may use, by nvidia-smi's numbers or UUIDs: 0,2 (default: all)")
]
JobsPerGpu = Annotated[int | None, typer.Option(help="Trainings at the same time on one GPU (default: 1)")]
JobsPerCpu = Annotated[
    int | None, typer.Option(help="Trainings at the same time on the CPU, those of other runs too (default: 1)")
]


@app.command()
def run(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATA", help="Folder, archive, .npz or table of labelled images, or a torchvision name"),
    ],
    describe: Annotated[str, typer.Option(help="What the images show, in your own words")] = "",
    instruct: Annotated[
        str, typer.Option(metavar="TEXT", help="Orders that bind the team (language models): 'use a ViT-B/16'")
    ] = "",
    instruct_architect: RoleOrders = None,
    instruct_data_engineer: RoleOrders = None,
    instruct_model_engineer: RoleOrders = None,
    instruct_training_engineer: RoleOrders = None,
    instruct_analyst: RoleOrders = None,
    instruct_summariser: RoleOrders = None,
    model: Annotated[
        str, typer.Option(help="Who writes the code: playbook, or a language model such as openai:gpt-5.4-mini")
    ] = "playbook",
    base_url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible server: vLLM, Ollama, llama.cpp, Azure ...")
    ] = None,
    env_file: EnvFile = None,
    show_images: Annotated[
        bool,
        typer.Option(
            "--show-images", help="Show the analyst's model images that are mistaken: they leave this machine"
        ),
    ] = False,
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
    until_budget: Annotated[
        bool,
        typer.Option("--until-budget", help="Go on where not even a perfect pipeline could be told from the best one"),
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the run")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the trainings")] = 0,
    max_attempts: Annotated[
        int | None,
        typer.Option(help="Tries of an iteration before it counts as failed (default: 3; 1 with --strategy zero-shot)"),
    ] = None,
    max_seeds: Annotated[int, typer.Option(help="Trainings per pipeline where a comparison is undecided")] = 2,
    folds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=5,
            help="Parts of a small data set that are held out in turn, one training each (default: as it pays)",
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Table of file and label: .csv, .tsv, .txt, .xlsx or .jsonl")
    ] = None,
    file_column: Annotated[str | None, typer.Option(help="Its column of file names")] = None,
    label_column: Annotated[str | None, typer.Option(help="Its column of labels")] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="How to read the folder, if two readings are plausible: class-folders, inner-folders, "
            "split-folders, table or file-names"
        ),
    ] = None,
    label_pattern: Annotated[
        str | None, typer.Option(help="Regular expression on file names; its first group is the label: '^(cat|dog)'")
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option("--group", help="Column of the table: images with equal values stay on one side of every split"),
    ] = None,
    group_pattern: Annotated[
        str | None,
        typer.Option(help="Regular expression on file paths: images whose first group is equal stay on one side"),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Longer side of the stored images in pixels (default: from the data)")
    ] = None,
    drop_rare_classes: Annotated[
        bool, typer.Option("--drop-rare-classes", help="Leave out classes with too few images, instead of stopping")
    ] = False,
    weights_dir: Annotated[
        str | None, typer.Option(help="Folder of safetensors files named after timm models (or IMPROVE_WEIGHTS)")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download/--no-download", help="Fetch pretrained weights, or use those on disk alone")
    ] = True,
    weights_licence: Annotated[
        str, typer.Option(help="Which weights may be fetched: permissive, or any, for your own use")
    ] = "permissive",
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
    use_env_file(env_file)
    _start(settings_of(context.params), name, as_json=as_json)


@app.command()
def demo(as_json: AsJson = False) -> None:
    """The main job on scikit-learn's 1,797 handwritten digits: a few minutes, no download."""
    from checkpoints.home import fresh_name
    from schema.settings import make_settings

    if not as_json:
        say(
            "A run on scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, ten classes, a few minutes on two cores."
        )
        say("The playbook writes the code here: curated moves, not a language model.")
    settings = make_settings(
        {
            "dataset": "digits",
            "iterations": 6,
            "train_seconds": 15.0,
            "budget_seconds": 170.0,
            "until_budget": True,  # the first pipeline is close to perfect, and the loop is to be seen
        }
    )
    _start(settings, fresh_name("demo", [row.name for row in open_store().runs()]), as_json=as_json)


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
    until_budget: Annotated[
        bool,
        typer.Option("--until-budget", help="Go on where not even a perfect pipeline could be told from the best one"),
    ] = False,
    env_file: EnvFile = None,
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
    use_env_file(env_file)
    more = _more(iterations, budget, max_tokens, max_cost) | queue_fields(gpus, jobs_per_gpu, jobs_per_cpu)
    _go_on(
        name,
        more | {"review": review, "until_budget": until_budget or None},
        sandbox,
        data,
        force=force,
        as_json=as_json,
    )


@app.command()
def fork(
    name: RunName,
    iteration: Annotated[int, typer.Option(help="The new run begins where this one was settled")],
    new_name: Annotated[str | None, typer.Option("--name", help="Of the new run")] = None,
    iterations: Annotated[int | None, typer.Option(help="Another number of iterations")] = None,
    budget: Annotated[str | None, typer.Option(help="Another time for the whole run: 2h, 45m")] = None,
    review: Annotated[bool | None, typer.Option("--review/--no-review", help="Ask before each training")] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """A new run that goes its own way from an earlier iteration of another, which stays as it is."""
    use_env_file(env_file)
    from graph.fork import fork as fork_graph

    more = _more(iterations, budget, None, None) | {"review": review}
    _go_on(fork_graph(name, iteration, new_name), more, None, None, force=False, as_json=as_json)


def _more(iterations: int | None, budget: str | None, max_tokens: int | None, max_cost: float | None) -> dict[str, Any]:
    seconds = seconds_of(budget, "--budget") if budget else None
    return {"iterations": iterations, "budget_seconds": seconds, "max_tokens": max_tokens, "max_cost": max_cost}


def _go_on(
    name: str, more: dict[str, Any], sandbox: str | None, data: str | None, *, force: bool, as_json: bool
) -> None:
    from graph.run import resume as resume_graph
    from improve.review import on_terminal
    from improve.view import watching

    changes = {key: value for key, value in more.items() if value is not None}
    with watching(open_store().run(name).settings.model_copy(update=changes), as_json=as_json) as view:
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
    from nodes.score_notes import claim, score_notes, what_happened

    store = open_store()
    row = store.run(name)
    if row.status == "failed":
        raise ImproveError(f"Run {name!r} failed: {one_line(row.reason, 1000)}")
    if as_json:
        say_json(in_json(name, store))
        return
    if sys.stdout.isatty():
        console = open_console()
        console.print(ledger_table(name, store, console.width))
    told = [what_happened(row, store.ledger(name)), claim(row), *score_notes(row)]
    for note in filter(None, told):
        say_wrapped(note)
    say_wrapped(f"use it: improve predict {name} IMAGE...   take it home: improve export {name} --to DIR")
    say(final_line(row))
