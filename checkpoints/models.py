"""The experiment store's tables. Records are kept as JSON; what is searched for or counted has a column."""

from contextlib import suppress
from typing import Any

from sqlalchemy import JSON, Engine, ForeignKey, String, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own declaration


class RunTable(Base):
    __tablename__ = "runs"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(default="")
    sandbox: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    created: Mapped[str] = mapped_column(String(40))
    seconds: Mapped[float] = mapped_column(default=0.0)
    profile: Mapped[dict[str, Any] | None]
    design: Mapped[str] = mapped_column(default="")
    first: Mapped[dict[str, Any] | None]
    best: Mapped[dict[str, Any] | None]
    thread: Mapped[str | None] = mapped_column(String(64), index=True)  # LangGraph's, where it is not the name
    environment: Mapped[dict[str, Any] | None]  # schema.run.Environment
    race: Mapped[dict[str, Any] | None]  # schema.race.Race


class ComponentTable(Base):
    """Source text, once per content."""

    __tablename__ = "components"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    code: Mapped[str]


class IterationTable(Base):
    __tablename__ = "iterations"
    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[dict[str, Any]]
    components: Mapped[dict[str, Any] | None]  # component -> digest
    proposal: Mapped[dict[str, Any] | None]
    fault: Mapped[dict[str, Any] | None]
    training: Mapped[dict[str, Any] | None]
    previous: Mapped[int | None]  # settled before it in its branch; None: the number before its own


class JobTable(Base):
    __tablename__ = "jobs"
    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    result: Mapped[dict[str, Any]]


class ScoreTable(Base):
    __tablename__ = "scores"
    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(String(16), primary_key=True)
    score: Mapped[dict[str, Any]]


class CallTable(Base):
    """A call is recorded when it is over, and never again: one that is made twice is paid for twice."""

    __tablename__ = "llm_calls"
    number: Mapped[int] = mapped_column(primary_key=True)
    run: Mapped[str] = mapped_column(ForeignKey("runs.name"), index=True)
    iteration: Mapped[int]
    node: Mapped[str] = mapped_column(String(40))
    tokens: Mapped[int]
    cost: Mapped[float | None]
    usage: Mapped[dict[str, Any]]


def make_tables(engine: Engine) -> None:
    """Those that are not there yet, and what an older version lacks in those that are."""
    _drop_old_calls(engine)
    _create_tables(engine)
    _add_new_columns(engine)
    _create_indexes(engine)


def _create_tables(engine: Engine) -> None:
    """Each statement asks by itself whether its table is there: of many runs that begin in a new home at once, each may be the first."""
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))


def _create_indexes(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def _drop_old_calls(engine: Engine) -> None:
    """Before there were language models this table had other columns, and never a row."""
    tables = inspect(engine)
    if tables.has_table("llm_calls") and "tokens" not in {column["name"] for column in tables.get_columns("llm_calls")}:
        CallTable.__table__.drop(engine)  # type: ignore[attr-defined]


def _add_new_columns(engine: Engine) -> None:
    """A store of an older version gets the columns that came since; they are nullable, so that its rows stay as they are."""
    tables = inspect(engine)
    for table in Base.metadata.sorted_tables:
        there = {column["name"] for column in tables.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                kind = column.type.compile(engine.dialect)
                with suppress(OperationalError), engine.begin() as connection:  # another process may be faster
                    connection.execute(text(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {kind}'))
