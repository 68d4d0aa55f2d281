"""The experiment store's tables. Records are kept as JSON; what is searched for or counted has a column."""

from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


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
