"""The checkpointer does all that LangGraph asks of one."""

import asyncio
from pathlib import Path

from langgraph.checkpoint.conformance import checkpointer_test, validate

from checkpoints.saver import SqliteCheckpointer


def test_it_conforms_in_full(tmp_path: Path) -> None:
    count = iter(range(10**6))

    @checkpointer_test(name="SqliteCheckpointer")
    async def fresh():  # type: ignore[no-untyped-def]
        with SqliteCheckpointer.open(tmp_path / f"{next(count)}.sqlite") as saver:
            yield saver

    report = asyncio.run(validate(fresh))
    assert report.passed_all(), report
