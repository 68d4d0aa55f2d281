"""The experiment store: runs, iterations, jobs and scores in SQLAlchemy. Every write is by natural key, since a node may run twice."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from typing import Any, cast, get_args

from sqlalchemy import URL, Engine, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from checkpoints.database import database_url, engine, one_at_a_time
from checkpoints.home import experiments_path, experiments_url, home, prepare_home
from checkpoints.models import (
    Base,
    CallTable,
    ComponentTable,
    IterationTable,
    JobTable,
    RunTable,
    ScoreTable,
    make_tables,
)
from checkpoints.trouble import explained
from schema.dataset import DatasetProfile, Split
from schema.errors import HomeError, HomeLost, RunNameTaken, UnknownRun
from schema.job import JobResult
from schema.pipeline import COMPONENTS, Fault, Pipeline
from schema.race import Race
from schema.record import Record
from schema.run import CallRow, Environment, Final, JobRow, RunRow, Status, Totals
from schema.score import Score
from schema.settings import Settings, Tier
from schema.team import LedgerRow, Proposal, Spent, TrainingEvidence, Usage


def open_store(url: str | None = None) -> "Store":
    """The store behind `url`, by default that of IMPROVE_DB_URL, or `experiments.sqlite` in $IMPROVE_HOME.

    Raises InputError where it cannot be opened."""
    chosen = make_url(url) if url else database_url()
    if chosen is not None:
        return _open(chosen, None)
    if not home().is_dir():
        prepare_home()
    file = experiments_path()
    try:
        if not file.exists():
            file.touch()
        told = file.stat()  # one that was deleted and made anew is another
        return _open(make_url(experiments_url()), (told.st_dev, told.st_ino))
    except (OSError, OperationalError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.orig
        raise HomeError(
            f"The data base {file} cannot be opened: {reason}. It has to be writable, also for reading, with room on its disk: "
            "mend that, or copy the home to where it is and point there: export IMPROVE_HOME=/path/to/copy"
        ) from error


def open_existing_store() -> "Store":
    """For a run that is under way: a home that was deleted is not made anew. Raises HomeLost."""
    if not home().is_dir():
        raise HomeLost(f"IMPROVE_HOME {home()} was deleted while a run was going on.")
    return open_store()


@cache
def _open(url: URL, file: tuple[int, int] | None) -> "Store":
    made = engine(url, file)
    with explained(), one_at_a_time(url, "tables of experiments"):
        make_tables(made)
    return Store(made)


def _json(record: Record | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json")


@dataclass(frozen=True)
class Store:
    engine: Engine

    # Runs

    def create_run(self, name: str, settings: Settings, sandbox: str, thread: str | None = None) -> None:
        with Session(self.engine) as session, session.begin():
            if session.get(RunTable, name):
                raise RunNameTaken(
                    f"A run named {name!r} exists. Choose another --name, or go on with it: improve resume {name}"
                )
            created = datetime.now(UTC).isoformat(timespec="seconds")
            asked = settings.model_dump(mode="json")
            row = RunTable(name=name, status="running", sandbox=sandbox, settings=asked, created=created, thread=thread)
            session.add(row)

    def run(self, name: str) -> RunRow:
        with Session(self.engine) as session:
            row = session.get(RunTable, name)
            if row is None:
                known = list(session.scalars(select(RunTable.name)))
                raise UnknownRun(_unknown(name, known))
            return _run_row(row)

    def run_of(self, thread: str) -> str | None:
        """The name of the run that LangGraph knows as this thread."""
        query = select(RunTable.name).where((RunTable.thread == thread) | (RunTable.name == thread))
        with Session(self.engine) as session:
            return session.scalar(query)

    def runs(self) -> list[RunRow]:
        with Session(self.engine) as session:
            return [
                _run_row(row) for row in session.scalars(select(RunTable).order_by(RunTable.created, RunTable.name))
            ]

    def set_status(self, name: str, status: Status, reason: str = "") -> None:
        self._change(name, status=status, reason=reason)

    def set_settings(self, name: str, settings: Settings) -> None:
        """`sandbox` becomes the weakest tier that the run has had: what its reader has to reckon with."""
        weakest = max(self.run(name).sandbox, settings.tier, key=("auto", *get_args(Tier)).index)
        self._change(name, settings=_json(settings), sandbox=weakest)

    def set_seconds(self, name: str, seconds: float) -> None:
        self._change(name, seconds=seconds)

    def set_profile(self, name: str, profile: DatasetProfile) -> None:
        self._change(name, profile=_json(profile))

    def set_environment(self, name: str, environment: Environment) -> None:
        self._change(name, environment=_json(environment))

    def set_design(self, name: str, text: str) -> None:
        self._change(name, design=text)

    def set_race(self, name: str, race: Race) -> None:
        self._change(name, race=_json(race))

    def clear_final(self, name: str) -> None:
        """The run goes on: its winner is not settled yet."""
        self._change(name, first=None, best=None)

    def set_final(self, name: str, first: Final, best: Final) -> None:
        self._change(name, first=_json(first), best=_json(best))

    def _change(self, name: str, **values: Any) -> None:
        with Session(self.engine) as session, session.begin():
            row = session.get_one(RunTable, name)
            for key, value in values.items():
                setattr(row, key, value)

    # Iterations

    def put_iteration(
        self,
        name: str,
        row: LedgerRow,
        *,
        previous: int | None = None,
        pipeline: Pipeline | None,
        proposal: Proposal | None,
        fault: Fault | None,
        training: TrainingEvidence | None,
    ) -> None:
        with Session(self.engine) as session, session.begin():
            components = None if pipeline is None else {c: _keep(session, pipeline.code(c)) for c in COMPONENTS}
            session.merge(
                IterationTable(
                    run=name,
                    iteration=row.iteration,
                    row=_json(row),
                    components=components,
                    proposal=_json(proposal),
                    fault=_json(fault),
                    training=_json(training),
                    previous=previous,
                )
            )

    def ledger(self, name: str, last: int | None = None) -> list[LedgerRow]:
        """The iterations that led to `last`, oldest first; to the newest one where it is None, to none where it is negative.

        A run that was taken back to an earlier iteration (docs/studio.md) has branches: their numbers are never used twice.
        """
        query = select(IterationTable.iteration, IterationTable.previous, IterationTable.row)
        with Session(self.engine) as session:
            rows = {
                number: (before, raw)
                for number, before, raw in session.execute(query.where(IterationTable.run == name))
            }
        found, at = [], max(rows, default=-1) if last is None else last
        while at in rows:
            before, raw = rows[at]
            found.append(LedgerRow.model_validate(raw))
            at = at - 1 if before is None else before
        return found[::-1]

    def is_settled(self, name: str, iteration: int) -> bool:
        with Session(self.engine) as session:
            return session.get(IterationTable, (name, iteration)) is not None

    def next_iteration(self, name: str) -> int:
        """A number that no iteration of the run has had."""
        query = select(func.coalesce(func.max(IterationTable.iteration), -1)).where(IterationTable.run == name)
        with Session(self.engine) as session:
            return int(session.scalars(query).one()) + 1

    def pipeline(self, name: str, iteration: int) -> Pipeline:
        with Session(self.engine) as session:
            row = session.get_one(IterationTable, (name, iteration))
            digests = row.components or {}
            return Pipeline.model_validate({c: session.get_one(ComponentTable, digests[c]).code for c in COMPONENTS})

    def training(self, name: str, iteration: int) -> TrainingEvidence | None:
        raw = self._iteration(name, iteration, "training")
        return TrainingEvidence.model_validate(raw) if raw else None

    def proposal(self, name: str, iteration: int) -> Proposal | None:
        raw = self._iteration(name, iteration, "proposal")
        return Proposal.model_validate(raw) if raw else None

    def fault(self, name: str, iteration: int) -> Fault | None:
        raw = self._iteration(name, iteration, "fault")
        return Fault.model_validate(raw) if raw else None

    def _iteration(self, name: str, iteration: int, column: str) -> dict[str, Any] | None:
        with Session(self.engine) as session:
            row = session.get(IterationTable, (name, iteration))
            return None if row is None else cast("dict[str, Any] | None", getattr(row, column))

    def copy_run(self, name: str, new: str, iterations: list[int], *, thread: str, settings: Settings) -> None:
        """A new run, stopped, with these iterations of the old one, their jobs and their scores on the validation images."""
        with Session(self.engine) as session, session.begin():
            old = session.get_one(RunTable, name)
            session.add(
                RunTable(
                    name=new,
                    status="stopped",
                    reason=f"begun from iteration {iterations[-1]} of {name}",
                    sandbox=old.sandbox,
                    settings=_json(settings),
                    created=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=sum(session.get_one(IterationTable, (name, n)).row["seconds"] for n in iterations),
                    profile=old.profile,
                    design=old.design,
                    environment=old.environment,
                    race=old.race,
                    thread=thread,
                )
            )
            session.flush()
            for table in (IterationTable, JobTable, ScoreTable):
                wanted = select(table).where(table.run == name, table.iteration.in_(iterations))
                for row in session.scalars(wanted).all():
                    if getattr(row, "split", "validation") == "validation":  # the test labels stay sealed
                        session.add(
                            table(**{c.key: getattr(row, c.key) for c in table.__table__.columns} | {"run": new})
                        )

    # Jobs, scores, calls

    def put_job(self, name: str, iteration: int, attempt: int, seed: int, result: JobResult) -> None:
        self._merge(JobTable(run=name, iteration=iteration, attempt=attempt, seed=seed, result=_json(result)))

    def jobs(self, name: str, iteration: int | None = None) -> list[JobRow]:
        query = select(JobTable).where(JobTable.run == name)
        if iteration is not None:
            query = query.where(JobTable.iteration == iteration)
        with Session(self.engine) as session:
            return [
                JobRow(
                    iteration=row.iteration,
                    attempt=row.attempt,
                    seed=row.seed,
                    result=JobResult.model_validate(row.result),
                )
                for row in session.scalars(query.order_by(JobTable.iteration, JobTable.attempt, JobTable.seed))
            ]

    def put_score(self, name: str, iteration: int, seed: int, split: Split, score: Score) -> None:
        self._merge(ScoreTable(run=name, iteration=iteration, seed=seed, split=split, score=_json(score)))

    def score(self, name: str, iteration: int, seed: int, split: Split) -> Score | None:
        with Session(self.engine) as session:
            row = session.get(ScoreTable, (name, iteration, seed, split))
            return Score.model_validate(row.score) if row else None

    def add_call(self, name: str, iteration: int, node: str, usage: Usage) -> None:
        tokens = usage.tokens_in + usage.tokens_out
        with Session(self.engine) as session, session.begin():
            session.add(
                CallTable(run=name, iteration=iteration, node=node, tokens=tokens, cost=usage.cost, usage=_json(usage))
            )

    def calls(self, name: str) -> list[CallRow]:
        """In the order in which they were made."""
        query = select(CallTable).where(CallTable.run == name).order_by(CallTable.number)
        with Session(self.engine) as session:
            return [
                CallRow(iteration=row.iteration, node=row.node, usage=Usage.model_validate(row.usage))
                for row in session.scalars(query)
            ]

    def spent(self, name: str) -> Spent:
        calls = select(func.coalesce(func.sum(CallTable.tokens), 0), func.sum(CallTable.cost)).where(
            CallTable.run == name
        )
        unpriced = select(func.count()).where(CallTable.run == name, CallTable.tokens > 0, CallTable.cost.is_(None))
        with Session(self.engine) as session:
            tokens, cost = session.execute(calls).one()
            return Spent(tokens=tokens, cost=None if session.scalar(unpriced) else cost or 0.0)

    def totals(self, name: str) -> Totals:
        jobs, spent = self.jobs(name), self.spent(name)
        return Totals(
            seconds=self.run(name).seconds,
            training_seconds=round(sum(s.seconds for job in jobs for s in job.result.steps if s.step == "train"), 2),
            jobs=len(jobs),
            tokens=spent.tokens,
            cost=spent.cost,
        )

    def _merge(self, row: Base) -> None:
        with Session(self.engine) as session, session.begin():
            session.merge(row)


def _keep(session: Session, code: str) -> str:
    """Runs share components: another may be keeping the same one at this moment."""
    digest = hashlib.sha256(code.encode()).hexdigest()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(ComponentTable).values(digest=digest, code=code).on_conflict_do_nothing())
    return digest


def _run_row(row: RunTable) -> RunRow:
    return RunRow.model_validate({column.key: getattr(row, column.key) for column in RunTable.__table__.columns})


def _unknown(name: str, known: list[str]) -> str:
    if not known:
        return f"No run named {name!r}. There is no run yet: improve run FOLDER"
    near = get_close_matches(name, known, n=3)
    hint = f"Did you mean {', '.join(near)}? " if near else ""
    return f"No run named {name!r}. {hint}`improve runs` lists all."
