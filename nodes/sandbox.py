"""The trainings that a comparison needs: each is a job that outlives us, is attached to when it runs, and read when it is done."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints.home import home
from checkpoints.store import Store
from dataset.prepare import load_inner_labels
from nodes.assemble import script_of
from nodes.context import (
    candidate_of,
    job_dir,
    job_spec,
    pretrained_of,
    profile_of,
    proposal_of,
    settings_of,
    trained_attempt,
)
from nodes.events import tell
from nodes.folds import fitting_folds, folds_of, labels_of, trainings_of
from nodes.pretrained import obtained
from nodes.services import Services
from nodes.stopping import cancelled_by_person, stopping
from sandbox import artifacts
from sandbox.device import forget
from sandbox.pretrained.broker import MOST
from sandbox.scoring import score
from schema.errors import JobsUnavailable, RunStopped
from schema.events import FaultFound, NodeEntered
from schema.job import JobResult, JobSpec, Plan
from schema.pipeline import Fault, Pipeline
from schema.pretrained import Pretrained
from schema.score import Score
from schema.state import State
from schema.team import Hardware, TrainingEvidence

FASTEST = {"precision", "channels_last"}
QUIET = 0.9  # of a training's seconds were its own: other programs took hardly any
MOST_CUTS = 2  # so often a training that was cut is given its whole time once more


@dataclass(frozen=True, slots=True)
class Training:
    """One training: which attempt of which iteration, with which of the run's seeds (0, 1, ...)."""

    iteration: int
    attempt: int
    seed: int
    pipeline: Pipeline
    script: str

    def directory(self, run: str) -> Path:
        return job_dir(run, self.iteration, self.attempt, self.seed)


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of it. `unseen` are the seconds that the job went on while no process of this run waited for it."""

    fault: Fault | None
    unseen: float
    weights: Pretrained


def sandbox(state: State, services: Services) -> dict[str, Any]:
    """Trains the candidate with every seed that the comparison wants, and the incumbent with those that it has not had yet.

    Of a small data set each training holds out another part instead; how many there are is settled when the first one shows what it costs.
    A fault of the candidate's first training goes to repair. Where a further one fails, nobody is at fault: the comparison has one less.
    """
    tell(NodeEntered(node="sandbox", iteration=state["iteration"]))
    store = services.store()
    pipeline = candidate_of(state, store)
    unseen, seed = 0.0, 0
    while seed < trainings_of(state):
        training = Training(state["iteration"], state["attempt"], seed, pipeline, script_of(pipeline, state))
        trained = _train(training, state, services)
        unseen += trained.unseen
        state = {**state, "weights": trained.weights.model_dump(mode="json")}
        if trained.fault and seed == 0:
            return {"fault": trained.fault.model_dump(mode="json"), "clock": unseen, "weights": state["weights"]}
        if trained.fault:
            tell(FaultFound(iteration=state["iteration"], attempt=state["attempt"], fault=trained.fault))
        if seed == 0 and state["base"] is None:
            state = {**state, "folds": _chosen_folds(training, state, services)}
        if seed > 0 and folds_of(state) == 1:
            unseen += _train_incumbent(seed, state, services)
        seed += 1
    if folds_of(state) > 1:
        _put_joined_score(state, services)
    return {"fault": None, "clock": unseen, "weights": state["weights"], "folds": folds_of(state)}


def _chosen_folds(first: Training, state: State, services: Services) -> int:
    result = services.jobs.result(first.directory(state["run"]))
    seconds = result.seconds if result else 0.0
    return fitting_folds(settings_of(state), profile_of(state, services.store()), seconds, state["clock"])


def _put_joined_score(state: State, services: Services) -> None:
    """The score of all folds together takes the place of that of the first."""
    store, run, settings = services.store(), state["run"], settings_of(state)
    found = {
        fold: answers
        for fold in range(folds_of(state))
        if (answers := answers_of(state, services, (state["iteration"], state["attempt"], fold))) is not None
    }
    labels = labels_of(settings, profile_of(state, store), list(found))
    classes = profile_of(state, store).classes
    joined = score(settings.metric, np.concatenate(list(found.values())), labels, classes)
    store.put_score(run, state["iteration"], 0, "validation", joined)


def answers_of(state: State, services: Services, job: tuple[int, int, int]) -> np.ndarray | None:
    """Class probabilities [images that decide, classes] of a job (iteration, attempt, seed); None where it has none, or a further one was cut."""
    store, (iteration, attempt, seed) = services.store(), job
    directory = job_dir(state["run"], iteration, attempt, seed)
    result = services.jobs.result(directory)
    if store.score(state["run"], iteration, seed, "validation") is None or (seed and result and result.cut):
        return None
    profile, settings = profile_of(state, store), settings_of(state)
    n = len(labels_of(settings, profile, [_fold(seed, state)]))
    found = artifacts.probabilities(directory, settings.select_on, n, profile.num_classes)
    return found if isinstance(found, np.ndarray) else None


def _fold(seed: int, state: State) -> int:
    """Which part of the images a training holds out: another one for each, or always the same."""
    return seed if folds_of(state) > 1 else 0


def evidence_of(state: State, services: Services) -> TrainingEvidence:
    """What the candidate's first training showed."""
    store = services.store()
    directory = job_dir(state["run"], state["iteration"], state["attempt"], 0)
    result, scored = services.jobs.result(directory), store.score(state["run"], state["iteration"], 0, "validation")
    if result is None or scored is None:
        raise RuntimeError(f"job {directory} has not been scored")
    trained = [outcome for outcome in result.steps if outcome.step == "train"]
    curve = artifacts.curve(directory)
    return TrainingEvidence(
        curve=curve,
        seconds=sum(outcome.seconds for outcome in trained),
        alone=sum(outcome.alone for outcome in trained),
        cut=result.cut,
        planned=artifacts.planned_epochs(curve),
        plan=artifacts.plan(directory),
        score=scored,
        inner=_inner_score(directory, state, store),
    )


def _inner_score(directory: Path, state: State, store: Store) -> Score | None:
    """None where the job left no usable answers to the inner validation images."""
    profile = profile_of(state, store)
    labels = load_inner_labels(profile)
    answers = artifacts.probabilities(directory, "inner", len(labels), profile.num_classes)
    if isinstance(answers, Fault):
        return None
    return score(settings_of(state).metric, answers, labels, profile.classes)


def _train_incumbent(seed: int, state: State, services: Services) -> float:
    """As `_train`, with the seconds alone; none where it has been trained with this seed."""
    run, base, store = state["run"], state["base"], services.store()
    if base is None or store.score(run, base, seed, "validation"):
        return 0.0
    attempt = trained_attempt(run, base, store)
    script = services.jobs.spec(job_dir(run, base, attempt, 0)).pipeline
    return _train(Training(base, attempt, seed, store.pipeline(run, base), script), state, services).unseen


def _train(training: Training, state: State, services: Services) -> Trained:
    """Run the job to its end, record it, and score it."""
    store = services.store()
    began = time.monotonic()
    known = {(row.attempt, row.seed) for row in store.jobs(state["run"], training.iteration)}
    weights = pretrained_of(state)
    result = _run_training(training, state, services, weights)
    for _ in range(MOST):
        fault = result.fault
        if fault is None or fault.wants is None or fault.wants in weights.asked:
            break
        weights, problem = obtained({fault.wants: (fault.component, fault.line)}, weights)
        if problem:
            result = result.model_copy(update={"fault": problem.model_copy(update={"stage": fault.stage})})
            break
        result = _run_training(training, state, services, weights)
    while result.cut and _holds_the_rest(training, result, state, services, time.monotonic() - began):
        services.jobs.go_on(training.directory(state["run"]))
        result = _run_training(training, state, services, weights)
    store.put_job(state["run"], training.iteration, training.attempt, training.seed, result)
    unseen = 0.0 if (training.attempt, training.seed) in known else result.seconds - (time.monotonic() - began)
    return Trained(result.fault or _score(training, result, state, store), max(0.0, unseen), weights)


def _holds_the_rest(training: Training, result: JobResult, state: State, services: Services, used: float) -> bool:
    """Whether a training that was cut is given more time: not for ever, and only if the budget holds what is left of its work."""
    directory = training.directory(state["run"])
    if services.jobs.times_cut(directory) >= MOST_CUTS:
        return False
    budget = settings_of(state).budget_seconds
    curve = artifacts.curve(directory)
    done, planned = (curve[-1].epoch if curve else 0), artifacts.planned_epochs(curve)
    spent = sum(step.seconds for step in result.steps if step.step == "train")
    rest = spent * (planned - done) / done if done and planned else spent
    return budget is None or budget - state["clock"] - used >= rest


def _run_training(training: Training, state: State, services: Services, weights: Pretrained) -> JobResult:
    spec = _spec(training, state, services.store(), weights)
    return run_job(training.directory(state["run"]), spec, state["run"], services)


def run_job(directory: Path, spec: JobSpec, run: str, services: Services) -> JobResult:
    """Start the job, or attach to it, and wait for its end.

    Raises JobsUnavailable, and RunStopped where the person stopped the job: nobody's mistake, and begun anew on resume.
    """
    services.jobs.start(directory, spec)
    try:
        result = services.jobs.wait(directory, on_progress=tell, stop=stopping)
    except RunStopped:
        if cancelled_by_person():
            services.jobs.stop(directory)
        raise
    if result.fault and result.fault.cause == "sandbox":
        raise JobsUnavailable(f"The sandbox {result.tier} does not work: {result.fault.message}", run=run)
    if result.fault and result.fault.cause == "device":
        forget(home())
        raise JobsUnavailable(result.fault.message, run=run)
    if result.fault and result.fault.cause == "stopped":
        raise RunStopped(f"the job {directory.name} was stopped", run=run)
    return result


def _spec(training: Training, state: State, store: Store, weights: Pretrained) -> JobSpec:
    settings, hardware = settings_of(state), Hardware.model_validate(state["hardware"])
    own = {
        "name": f"{state['run']}/{training.iteration}/{training.attempt}-s{training.seed}",
        "pipeline": training.script,
        "fingerprint": training.pipeline.fingerprint,
        "seed": settings.seed + training.seed,
        **_inherited(training, state, store),
    }
    return job_spec(settings, hardware, profile_of(state, store), weights, own, fold=_fold(training.seed, state))


def _inherited(training: Training, state: State, store: Store) -> dict[str, Any]:
    """A further seed repeats its pipeline's plan. A candidate gets the incumbent's epochs, so that both see equally many images,
    unless it is about training longer; how it was fastest stands while the model is the same, and is timed first where not."""
    run, cores = state["run"], Hardware.model_validate(state["hardware"]).cores
    if training.seed > 0:
        plan = artifacts.plan(job_dir(run, training.iteration, training.attempt, 0))
        seen = store.training(run, training.iteration)
        plan = _achieved(plan, seen) if plan and seen else plan
        return _taken(plan, {"epochs", "threads", *FASTEST}, cores) | {"settled": True, "repeats": True} if plan else {}
    base = state["base"]
    evidence = None if base is None else store.training(run, base)
    if base is None or evidence is None or evidence.plan is None:
        return {}
    proposal = proposal_of(state)
    kept = FASTEST if proposal and proposal.longer else {"epochs", *FASTEST}
    # On a busy machine nobody knows exactly how long it really trained.
    quiet = evidence.alone > QUIET * evidence.seconds
    measured = {"least_seconds": evidence.alone} if quiet and not (proposal and proposal.longer) else {}
    plan = _achieved(evidence.plan, evidence)
    if store.pipeline(run, base).model == training.pipeline.model:
        return _taken(plan, {"threads", *kept}, cores) | measured | {"settled": True}
    return _taken(plan, kept, cores) | measured


def _achieved(plan: Plan, evidence: TrainingEvidence) -> Plan:
    """Who is compared with a first pipeline that was cut gets as many epochs as it got."""
    if not evidence.cut or not evidence.curve:
        return plan
    return plan.model_copy(update={"epochs": max(1, min(plan.epochs, evidence.curve[-1].epoch))})


def _taken(plan: Plan, fields: set[str], cores: int) -> dict[str, Any]:
    """A plan is what a job says of itself: where it asks for more threads than there are cores, all that follow would crawl."""
    taken = plan.model_dump(include=fields)
    return taken | {"threads": min(plan.threads, cores)} if "threads" in fields else taken


def _score(training: Training, result: JobResult, state: State, store: Store) -> Fault | None:
    """Probabilities are read as untrusted data, and scored here against labels that the job never saw."""
    settings, profile = settings_of(state), profile_of(state, store)
    labels = labels_of(settings, profile, [_fold(training.seed, state)])
    directory = training.directory(state["run"])
    probabilities = artifacts.probabilities(directory, settings.select_on, len(labels), profile.num_classes)
    if isinstance(probabilities, Fault):
        failed = result.model_copy(update={"ok": False, "fault": probabilities})
        store.put_job(state["run"], training.iteration, training.attempt, training.seed, failed)
        return probabilities
    scored = score(settings.metric, probabilities, labels, profile.classes)
    store.put_score(state["run"], training.iteration, training.seed, "validation", scored)
    return None
