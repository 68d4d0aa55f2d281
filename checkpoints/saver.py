"""The checkpointer of SQLite, one for invoke, ainvoke and the server; and the choice between it and the one of PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver

from checkpoints.checkpointer import PLAIN, Checkpointer
from checkpoints.database import connect_sqlite, database_url
from checkpoints.home import bytes_on_disk, checkpoints_path, prepare_home
from checkpoints.trouble import damaged, explained, refusal
from schema.errors import HomeError


@contextmanager
def open_checkpointer() -> Iterator[Checkpointer]:
    """That of IMPROVE_DB_URL, or `checkpoints.sqlite` in $IMPROVE_HOME. Raises InputError where it cannot be opened."""
    url = database_url()
    if url is None:
        with SqliteCheckpointer.open(checkpoints_path()) as saver:
            yield saver
        return
    from checkpoints.postgres import PostgresCheckpointer  # noqa: PLC0415 - an extra

    with PostgresCheckpointer.open(url) as saver:
        yield saver


@asynccontextmanager
async def create_checkpointer() -> AsyncIterator[Checkpointer]:
    """For langgraph.json, so that the server and the command line share one data base."""
    await asyncio.to_thread(prepare_home)
    manager = open_checkpointer()
    saver = await asyncio.to_thread(manager.__enter__)
    try:
        yield saver
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


class SqliteCheckpointer(Checkpointer, SqliteSaver):
    """LangGraph's SqliteSaver with retention."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        super().__init__(connection, serde=PLAIN)
        self.path = path

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["SqliteCheckpointer"]:
        connection = connect_sqlite(path)
        try:
            saver = cls(connection, path)
            with explained():
                saver.setup()
            yield saver
        finally:
            connection.close()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        try:
            return super().get_tuple(config)
        except ValueError as error:  # SQLite has no checksums: it may hand out what was written over
            raise refusal(damaged(self.path, str(error))) from error

    def greatest_id(self, thread_id: str, namespace: str) -> str | None:
        with self.cursor(transaction=False) as cursor:
            query = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ?"
            found: tuple[str | None] = cursor.execute(query, (thread_id, namespace)).fetchone()
            return found[0]

    def size(self) -> int:
        return bytes_on_disk(self.path)

    def compact(self) -> None:
        """VACUUM writes what is left to a new file and from there through the journal, which is as long then. Raises HomeError where that has no room."""
        try:
            with self.lock:
                self.conn.execute("VACUUM")
                self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_FULL":
                raise
            raise HomeError(
                f"{self.path} is pruned, and keeps its size: the disk has no room to write anew what is left of it. Make room, then do it again."
            ) from None

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the newest checkpoint of each thread, or none (`delete`)."""
        if strategy not in {"keep_latest", "delete"}:
            raise ValueError(f"unknown prune strategy {strategy!r}: expected keep_latest or delete")
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
                continue
            with self.cursor() as cursor:
                cursor.execute(
                    "DELETE FROM checkpoints WHERE thread_id = ?1 AND (checkpoint_ns, checkpoint_id) NOT IN "
                    "(SELECT checkpoint_ns, max(checkpoint_id) FROM checkpoints WHERE thread_id = ?1 GROUP BY checkpoint_ns)",
                    (thread_id,),
                )
                _drop_orphaned_writes(cursor, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        with self.cursor() as cursor:
            for run_id in run_ids:
                of_run = "FROM checkpoints WHERE json_extract(CAST(metadata AS TEXT), '$.run_id') = ?"
                threads = [row[0] for row in cursor.execute(f"SELECT DISTINCT thread_id {of_run}", (run_id,))]
                cursor.execute(f"DELETE {of_run}", (run_id,))
                for thread_id in threads:
                    _drop_orphaned_writes(cursor, thread_id)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        names = (target_thread_id, source_thread_id)
        with self.cursor() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata) "
                "SELECT ?, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata FROM checkpoints WHERE thread_id = ?",
                names,
            )
            cursor.execute(
                "INSERT OR REPLACE INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value) "
                "SELECT ?, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, value FROM writes WHERE thread_id = ?",
                names,
            )


def _drop_orphaned_writes(cursor: sqlite3.Cursor, thread_id: str) -> None:
    cursor.execute(
        "DELETE FROM writes WHERE thread_id = ?1 AND (checkpoint_ns, checkpoint_id) NOT IN "
        "(SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?1)",
        (thread_id,),
    )
