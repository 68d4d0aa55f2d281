"""Who may talk to the server: its user, and nobody else's pages and programs.

A server on the loopback is reached by every page that is open in the user's browser, and by every account of the machine. So each
request has to carry the server's token, to name this machine as its host (a page can point a name of its own at 127.0.0.1), and to come
from no foreign page; and what it brings has to be JSON, which no page can send elsewhere without asking first.
"""

import hmac
import os
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from checkpoints.home import SERVER_TOKEN

STUDIO = "https://smith.langchain.com"  # the page of LangGraph Studio
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HOSTS = "IMPROVE_SERVER_HOSTS"  # further names of this machine, if the server listens to others: comma-separated
PREFIX = "t"  # an address that carries the token: http://127.0.0.1:2024/t/TOKEN
OPEN = frozenset({"/ok"})  # says that it lives
IN_PROCESS = "/noauth"  # root path of the server's own calls, which come over no network: langgraph_sdk.get_client()


class Guard:
    """ASGI middleware: refuses what is not the user's with a sentence, and takes the token out of the path."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str] = LOOPBACK) -> None:
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or scope.get("root_path") == IN_PROCESS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is None:
            await self.app(_without_token(scope), receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008, refused[1])(scope, receive, send)
        else:
            await JSONResponse({"detail": refused[1]}, refused[0])(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if _name_of(host) not in self.hosts:
            return 403, f"This server does not answer to that host name. If it is this machine's: {HOSTS}=NAME"
        if not _is_own_page(scope, headers, host):
            return 403, "Pages of other sites may not use this server."
        if scope["path"] in OPEN and scope.get("method") == "GET":
            return None
        if not self._carries_token(scope, headers):
            return (
                401,
                f"The token is missing or wrong. It stands in {SERVER_TOKEN} of $IMPROVE_HOME: send it as x-api-key.",
            )
        if _brings_something(scope, headers) and _media_type(headers) != "application/json":
            return 415, "Expected content-type: application/json"
        return None

    def _carries_token(self, scope: Scope, headers: Headers) -> bool:
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        given = (_token_in(scope["path"]), headers.get("x-api-key", ""), bearer)
        return any(hmac.compare_digest(one.encode(), self.token.encode()) for one in given)


def hosts_from_environment() -> frozenset[str]:
    return LOOPBACK | {name.strip().lower() for name in os.environ.get(HOSTS, "").split(",") if name.strip()}


def _name_of(host: str) -> str:
    """Without its port: `[::1]:2024` is `::1`."""
    return (urlsplit(f"//{host}").hostname or "").rstrip(".") if host.isascii() else ""


def _is_own_page(scope: Scope, headers: Headers, host: str) -> bool:
    """A browser says from which page a request comes, and no page can change what it says."""
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    origin = headers.get("origin")
    if origin is not None:
        return origin in {STUDIO, f"{scheme}://{host}"}
    return headers.get("sec-fetch-site", "none") in {"none", "same-origin"}


def _brings_something(scope: Scope, headers: Headers) -> bool:
    return scope["type"] == "http" and (headers.get("content-length", "0") != "0" or "transfer-encoding" in headers)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _token_in(path: str) -> str:
    parts = path.split("/", 3)
    return parts[2] if len(parts) > 2 and parts[1] == PREFIX else ""


def _without_token(scope: Scope) -> dict[str, Any]:
    if not _token_in(scope["path"]):
        return dict(scope)
    path = "/" + "/".join(scope["path"].split("/", 3)[3:])
    raw = scope.get("raw_path")
    return {**scope, "path": path, "raw_path": None if raw is None else b"/" + b"/".join(raw.split(b"/", 3)[3:])}
