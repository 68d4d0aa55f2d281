"""The checkpointer of PostgreSQL: LangGraph's PostgresSaver on connections that outlive a restart of the server, with what it lacks."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import Connection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool
from sqlalchemy import URL

from checkpoints import database
from checkpoints.any_text import accept_any_text
from checkpoints.checkpointer import PLAIN, Checkpointer
from checkpoints.database import CONNECT_SECONDS, engine, one_at_a_time
from checkpoints.trouble import explained

TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
COLUMNS = {
    "checkpoints": "checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata",
    "checkpoint_blobs": "checkpoint_ns, channel, version, type, blob",
    "checkpoint_writes": "checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob",
}
# What the pool has to say of a server that is away comes as an error, too.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())


class PostgresCheckpointer(Checkpointer, PostgresSaver):
    """PostgresSaver uses one connection at a time, under a lock of its own. The pool tries each before it is used, and replaces one that is dead."""

    conn: ConnectionPool[Connection[DictRow]]

    @classmethod
    @contextmanager
    def open(cls, url: URL) -> Iterator["PostgresCheckpointer"]:
        arguments = dict(engine(url).dialect.create_connect_args(url)[1])
        options = {"connect_timeout": CONNECT_SECONDS, "application_name": "improve"}
        saver = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        with explained():
            engine(url).connect().close()  # a wrong password is told at once, and not when the pool gives up
        pool = ConnectionPool(
            kwargs=options | arguments | saver,
            connection_class=Connection[DictRow],
            min_size=1,
            max_size=2,
            timeout=database.BUSY_SECONDS,
            check=ConnectionPool.check_connection,
            configure=accept_any_text,
            open=False,
        )
        with pool:
            made = cls(pool, serde=PLAIN)
            with explained(), one_at_a_time(url, "tables of checkpoints"):
                made.setup()
            yield made

    def greatest_id(self, thread_id: str, namespace: str) -> str | None:
        query = "SELECT max(checkpoint_id) AS id FROM checkpoints WHERE thread_id = %s AND checkpoint_ns = %s"
        with self._cursor() as cursor:
            found = cursor.execute(query, (thread_id, namespace)).fetchone()
            return found["id"] if found else None

    def size(self) -> int:
        with self._cursor() as cursor:
            query = (
                "SELECT sum(pg_total_relation_size(to_regclass(name)))::bigint AS bytes FROM unnest(%s::text[]) AS name"
            )
            found = cursor.execute(query, (list(TABLES),)).fetchone()
            return int(found["bytes"] or 0) if found else 0

    def compact(self) -> None:
        """Others wait while it copies what is left, some seconds at most after a prune."""
        with self._cursor() as cursor:
            cursor.execute(f"VACUUM (FULL, ANALYZE) {', '.join(TABLES)}")

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        with self._cursor() as cursor, cursor.connection.transaction():
            query = "DELETE FROM checkpoints WHERE metadata ->> 'run_id' = ANY(%s) RETURNING thread_id"
            threads = sorted({row["thread_id"] for row in cursor.execute(query, (list(run_ids),)).fetchall()})
            cursor.execute(
                "DELETE FROM checkpoint_writes AS w WHERE thread_id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM checkpoints AS c "
                "WHERE (c.thread_id, c.checkpoint_ns, c.checkpoint_id) = (w.thread_id, w.checkpoint_ns, w.checkpoint_id))",
                (threads,),
            )
            cursor.execute(
                "DELETE FROM checkpoint_blobs AS b WHERE thread_id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM checkpoints AS c "
                "WHERE (c.thread_id, c.checkpoint_ns) = (b.thread_id, b.checkpoint_ns) "
                "AND c.checkpoint -> 'channel_versions' ->> b.channel = b.version)",
                (threads,),
            )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        with self._cursor() as cursor, cursor.connection.transaction():
            for table in TABLES:
                cursor.execute(
                    f"INSERT INTO {table} (thread_id, {COLUMNS[table]}) SELECT %s, {COLUMNS[table]} FROM {table} "  # noqa: S608 - names of ours
                    "WHERE thread_id = %s ON CONFLICT DO NOTHING",
                    (target_thread_id, source_thread_id),
                )
