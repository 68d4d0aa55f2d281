"""Beside LangGraph's server (`langgraph dev`): every run of $IMPROVE_HOME is a thread there, whoever began it, so that Studio can open it; and nobody but its user may talk to it."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIError
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware

from checkpoints.home import server_token
from checkpoints.store import open_store
from graph.server_guard import PREFIX, STUDIO, Guard, hosts_from_environment
from graph.server_limits import limit_this_process
from nodes.profile import is_uuid
from schema.errors import ImproveError
from schema.text import one_line

BETWEEN_LOOKS = 3.0  # seconds
_LOG = logging.getLogger(__name__)


async def _show_runs() -> None:
    client, shown = get_client(), set[str]()  # without an address: this very server
    while True:
        await asyncio.sleep(BETWEEN_LOOKS if shown else 0.5)
        with contextlib.suppress(
            ImproveError, SQLAlchemyError
        ):  # no home, or a data base that is busy: there is a next time
            for row in await asyncio.to_thread(lambda: open_store().runs()):
                if row.thread and row.name not in shown and is_uuid(row.thread):
                    await _show(client, row.name, row.thread)
                    shown.add(row.name)


async def _show(client: LangGraphClient, name: str, thread: str) -> None:
    try:
        await client.threads.create(thread_id=thread, graph_id="improve", if_exists="do_nothing")
        await client.threads.update(thread, metadata={"run": name})
    except (APIError, httpx.HTTPError) as error:
        _LOG.warning("run %s cannot be shown as a thread: %s", name, one_line(str(error), 500))


@contextlib.asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[None]:
    _LOG.warning(
        "Open Studio with the token of this server: %s/studio/?baseUrl=http://127.0.0.1:%s/%s/%s",
        STUDIO,
        _port(),
        PREFIX,
        TOKEN,
    )
    showing = asyncio.create_task(_show_runs())
    try:
        yield
    finally:
        showing.cancel()


def _port() -> str:
    """That `langgraph dev` listens to."""
    return next((sys.argv[i + 1] for i, word in enumerate(sys.argv[:-1]) if word == "--port"), "2024")


limit_this_process()
TOKEN = server_token()
app = Starlette(
    lifespan=_lifespan,
    middleware=[Middleware(Guard, token=TOKEN, hosts=hosts_from_environment())],  # before all others
)
