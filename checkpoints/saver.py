"""One SQLite checkpointer for invoke, ainvoke and the server: LangGraph's SqliteSaver with asynchronous methods and retention."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata, CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver

from checkpoints.home import checkpoints_path, prepare_home

BUSY_SECONDS = (
    30.0  # another process may hold a write transaction; LangGraph's own default of 5 s was too short under load
)


class SqliteCheckpointer(SqliteSaver):
    """SqliteSaver whose asynchronous face runs the same calls in a worker thread, so the event loop never blocks."""

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["SqliteCheckpointer"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_SECONDS)
        try:
            saver = cls(connection)
            saver.setup()
            yield saver
        finally:
            connection.close()

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.get_tuple, config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        found = await asyncio.to_thread(lambda: list(self.list(config, filter=filter, before=before, limit=limit)))
        for item in found:
            yield item

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)

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
                "INSERT OR REPLACE INTO writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value) "
                "SELECT ?, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, value FROM writes WHERE thread_id = ?",
                names,
            )


def _drop_orphaned_writes(cursor: sqlite3.Cursor, thread_id: str) -> None:
    cursor.execute(
        "DELETE FROM writes WHERE thread_id = ?1 AND (checkpoint_ns, checkpoint_id) NOT IN "
        "(SELECT checkpoint_ns, checkpoint_id FROM checkpoints WHERE thread_id = ?1)",
        (thread_id,),
    )


@asynccontextmanager
async def create_checkpointer() -> AsyncIterator[SqliteCheckpointer]:
    """For langgraph.json, so that the server and the command line share one file."""
    await asyncio.to_thread(prepare_home)
    manager = SqliteCheckpointer.open(checkpoints_path())
    saver = await asyncio.to_thread(manager.__enter__)
    try:
        yield saver
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
