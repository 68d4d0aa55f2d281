"""What our checkpointers add to LangGraph's: an asynchronous face, checkpoints that hold plain values only, ids that never go back, and their size."""

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.base import id as ids
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

# By default LangGraph imports and calls whatever type a checkpoint names. Our state is plain JSON, and has no need of it.
PLAIN = JsonPlusSerializer(allowed_msgpack_modules=None)

_clock = threading.Lock()


class Checkpointer(BaseCheckpointSaver[str]):
    """The asynchronous methods run the synchronous ones in a worker thread, so that the event loop never blocks and no loop owns the connection."""

    @abstractmethod
    def greatest_id(self, thread_id: str, namespace: str) -> str | None:
        """Of all checkpoints in this thread."""

    @abstractmethod
    def size(self) -> int:
        """Bytes on disk."""

    @abstractmethod
    def compact(self) -> None:
        """Give back the room of what was deleted."""

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Who goes on with a thread reads it first: that is when new ids have to become greater than all that it has."""
        place = config["configurable"]
        if greatest := self.greatest_id(str(place["thread_id"]), place.get("checkpoint_ns", "")):
            never_before(greatest)
        return super().get_tuple(config)

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


def never_before(checkpoint_id: str) -> None:
    """Let this process make no checkpoint id that sorts before this one. The newest checkpoint is the one with the greatest id, and ids
    are made from the clock: one that has gone back between two processes would put what comes now before what was."""
    try:
        made = ids.UUID(hex=checkpoint_id)
    except ValueError:
        return  # not LangGraph's
    if made.version == 6:
        with _clock:
            ids._last_v6_timestamp = max(ids._last_v6_timestamp or 0, made.time)  # type: ignore[assignment]
