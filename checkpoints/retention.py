"""How much room the runs take, and giving back what only the past needs: every checkpoint of a run but its latest."""

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from checkpoints.database import database_url, engine, place
from checkpoints.home import bytes_on_disk, checkpoints_path, experiments_path
from checkpoints.lock import run_lock
from checkpoints.models import Base
from checkpoints.store import open_store
from schema.errors import RunBusy


@dataclass(frozen=True, slots=True)
class Pruned:
    runs: list[str]  # that keep their latest checkpoint
    driven: list[str]  # that were left alone
    before: int  # bytes of all checkpoints
    after: int


def prune_runs() -> Pruned:
    """Keep the latest checkpoint of each run that nobody drives. It goes on from there, and from nowhere before."""
    from checkpoints.saver import open_checkpointer  # noqa: PLC0415 - LangGraph takes a second to import

    pruned: list[str] = []
    driven: list[str] = []
    with open_checkpointer() as saver:
        before = saver.size()
        for run in open_store().runs():
            try:
                with run_lock(run.name):
                    saver.prune([run.thread or run.name])
                pruned.append(run.name)
            except RunBusy:
                driven.append(run.name)
        saver.compact()
        return Pruned(pruned, driven, before, saver.size())


def set_aside_checkpoints() -> Path:
    """Damaged checkpoints, where nobody reads them again. Returns where they are now."""
    path, mark = checkpoints_path(), f"damaged-{time.time_ns()}"
    for file in path.parent.glob(f"{path.name}*"):
        if "damaged-" not in file.name:
            file.rename(file.with_name(f"{file.name}.{mark}"))
    return path.with_name(f"{path.name}.{mark}")


def database_sizes() -> dict[str, int]:
    """Bytes of each data base, by its file or by its place on the server."""
    url = database_url()
    if url is None:
        return {str(path): bytes_on_disk(path) for path in (checkpoints_path(), experiments_path())}
    query = text("SELECT pg_total_relation_size(to_regclass(:name))")
    tables = {
        "checkpoints": ("checkpoints", "checkpoint_blobs", "checkpoint_writes"),
        "experiments": tuple(Base.metadata.tables),
    }
    with engine(url).connect() as connection:
        return {
            f"{place(url)} {what}": sum(connection.scalar(query, {"name": name}) or 0 for name in names)
            for what, names in tables.items()
        }
