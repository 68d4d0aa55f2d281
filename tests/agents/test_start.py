"""What can be wrong with models, keys, addresses, prices and budgets: each a sentence before anything is made, with exit code 2."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.llm.providers import OPENAI, settled_address
from agents.team import Line, make_team, settled
from checkpoints.home import home, prices_path
from schema.errors import SettingsError
from schema.events import Event, ModelWaits
from schema.settings import Settings, make_settings
from schema.team import Spent, Usage
from tests.agents.server import KEY, Ask, Character, Reply, Server, good, serving

PYTHON = ("http.server", "hello")


class Heard:
    """A line to a run that does not exist yet."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.usages: list[Usage] = []
        self.line = Line(self.events.append, self.usages.append, Spent, lambda: False, prices_path())


def check(heard: Heard | None = None, **own: object) -> None:
    heard = heard or Heard()
    settings = settled(make_settings({"dataset": "photos", "model": "openai:here", **own}))
    make_team(settings, heard.line).check()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


def test_a_model_that_answers_is_fine_and_its_answer_counted(server: Server) -> None:
    heard = Heard()
    check(heard, base_url=server.url, max_tokens=100_000)
    assert [usage.role for usage in heard.usages] == ["architect"]
    assert server.authorizations == ["Bearer none"]  # a local server needs no key


def test_each_model_is_asked_once_whatever_roles_it_has(server: Server) -> None:
    heard = Heard()
    check(heard, base_url=server.url, role_models={"analyst": "openai:large", "data": "openai:large"})
    assert [ask.body["model"] for ask in server.requests] == ["here", "large"]


def test_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="openai:here needs a key, and OPENAI_API_KEY is not set"):
        check()


@pytest.mark.parametrize(("model", "name"), [("anthropic:x", "ANTHROPIC_API_KEY"), ("google:x", "GOOGLE_API_KEY")])
def test_no_key_of_another_provider(model: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=f"{model} needs a key, and {name} is not set"):
        check(model=model)


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    with pytest.raises(SettingsError, match=r"needs langchain-anthropic, which is not installed. .*\[anthropic\]"):
        check(model="anthropic:x")


@pytest.mark.parametrize("named", [False, True])
def test_a_key_from_a_file_of_the_user_is_used_and_stays_out_of_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, *, named: bool
) -> None:
    file = tmp_path / "keys.txt" if named else home / ".env"
    file.write_text(f"OPENAI_API_KEY='{KEY}'\n")
    monkeypatch.setenv("IMPROVE_ENV_FILE", str(file) if named else "")
    check(base_url=server.url)
    assert server.authorizations == [f"Bearer {KEY}"]
    assert "OPENAI_API_KEY" not in os.environ


def test_a_dotenv_file_of_the_current_folder_is_not_read_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may have come with the images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY='{KEY}'\nOPENAI_BASE_URL=http://127.0.0.1:9/v1\n")
    with pytest.raises(
        SettingsError, match=r"OPENAI_API_KEY is not set.*--env-file FILE.*\.env here is not read"
    ) as told:
        check()
    assert KEY not in str(told.value)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert settled_address(Settings(dataset="digits", model="openai:here")) == OPENAI


@pytest.mark.parametrize("named", [False, True])
def test_a_key_does_not_follow_an_address_from_a_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path, *, named: bool
) -> None:
    file = tmp_path / "server.txt" if named else home / ".env"
    file.write_text(f"OPENAI_BASE_URL={server.url}/\n")
    monkeypatch.setenv("IMPROVE_ENV_FILE", str(file) if named else "")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    address = settled_address(Settings(dataset="digits", model="openai:here"))
    assert address
    with pytest.raises(SettingsError, match="OPENAI_API_KEY from the environment: a key does not follow") as told:
        check(base_url=address)
    assert KEY not in str(told.value)
    assert server.authorizations == []


def test_an_address_from_a_file_gets_the_key_of_that_file_or_none(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "server.txt"
    file.write_text(f"OPENAI_BASE_URL={server.url}\n")
    monkeypatch.setenv("IMPROVE_ENV_FILE", str(file))
    check(base_url=settled_address(Settings(dataset="digits", model="openai:here")))
    file.write_text(f"OPENAI_BASE_URL={server.url}\nOPENAI_API_KEY={KEY}\n")
    check(base_url=settled_address(Settings(dataset="digits", model="openai:here")))
    assert server.authorizations == ["Bearer none", f"Bearer {KEY}"]


def test_the_key_of_the_file_goes_with_its_address_whatever_the_environment_has(
    server: Server, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / ".env").write_text(f"OPENAI_BASE_URL={server.url}\nOPENAI_API_KEY={KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    check(base_url=settled_address(Settings(dataset="digits", model="openai:here")))
    assert server.authorizations == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(f"Incorrect API key provided: {KEY}", status=401), r"refuses the key for openai:here .*\*\*\*.*Look at OPENAI_API_KEY"),
        (Reply("no rights", status=403), "refuses the key"),
        (Reply("The model `here` does not exist", status=404), r"has no model 'here'.*It has: here\."),
        (Reply("no such endpoint: /chat/completions", status=404), "answers, but not as an OpenAI-compatible server"),
        (Reply(raw=b"<html>Welcome to nginx</html>"), "answers, but not as an OpenAI-compatible server"),
        (Reply(raw=b"{}"), "answers, but not as an OpenAI-compatible server"),
        (Reply(raw=b'{"choices": null}'), "answers, but not as an OpenAI-compatible server"),
        (Reply(status=429, error={"message": "You exceeded your current quota", "code": "insufficient_quota"}), "cannot be used: it answers 429"),
        (Reply("max context is 10", status=400), "cannot be used: it answers 400: max context is 10"),
    ],
)  # fmt: skip
def test_what_a_server_refuses_is_told(reply: Reply, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda ask: reply) as server, pytest.raises(SettingsError, match=said) as caught:
        check(base_url=server.url)
    assert KEY not in str(caught.value)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        SettingsError,
        match=rf"Nothing answers at http://127.0.0.1:{port}/v1: the connection failed.*Connection refused",
    ):
        check(base_url=f"http://127.0.0.1:{port}/v1")


def test_a_server_of_something_else() -> None:
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(SettingsError, match="answers, but not as an OpenAI-compatible server: it answers 501"):
            check(base_url=f"http://127.0.0.1:{http_server.server_address[1]}")
    finally:
        http_server.shutdown()
        http_server.server_close()


def test_a_short_rate_limit_is_waited_out_in_sight() -> None:
    def busy(ask: Ask) -> Reply:
        return Reply("slow down", status=429, headers={"retry-after-ms": "200"}) if ask.number == 1 else good(ask)

    heard = Heard()
    with serving(busy) as server:
        check(heard, base_url=server.url)
    assert [type(event) for event in heard.events] == [ModelWaits]
    assert heard.usages[0].attempts == 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000", "no address: expected e.g. http://localhost:11434/v1"),
        ("ftp://here", "no address"),
        ("http://", "no address"),
        ("http://[bad", "no address"),
        (f"http://user:{KEY}@here/v1", "keys belong into the environment"),
        (f"http://here/v1?key={KEY}", "keys belong into the environment"),
    ],
)
def test_an_address_that_is_none_or_carries_a_key(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=f"base_url: .*{said}") as caught:
        check(base_url=url)
    assert KEY not in str(caught.value)


def test_an_address_from_the_environment_is_frozen_into_the_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    frozen = settled(Settings(dataset="photos", model="openai:here"))
    assert frozen.base_url == server.url
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    assert settled(frozen).base_url == server.url


def test_without_one_the_provider_s_own_is_frozen_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settled(Settings(dataset="photos", model="openai:here")).base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input = ", "cannot be read as prices"),
        ('["openai:here"]\ninput = "much"\noutput = 1', "input = 'much' is no price"),
        ('["openai:here"]\ninput = 1', "output = None is no price"),
        ('["openai:here"]\ninput = 1\noutput = -1', "output = -1 is no price"),
        ('["openai:here"]\ninput = 1\noutput = 1\nout = 2', "'out', which is not known"),
        ('"openai:here" = 3', "= 3 is no price"),
    ],
)
def test_a_price_file_with_mistakes(text: str, said: str, server: Server) -> None:
    home().mkdir(exist_ok=True)
    prices_path().write_text(text)
    with pytest.raises(SettingsError, match=said) as caught:
        check(base_url=server.url)
    assert str(prices_path()) in str(caught.value)
    assert 'Expected entries such as ["openai:gpt-5.4-mini"]' in str(caught.value)
    assert server.requests == []


def test_a_limit_of_cost_needs_a_price_and_says_where_to_write_it(server: Server) -> None:
    with pytest.raises(SettingsError, match=r"the price of openai:here is not known. Write it into .*prices.toml"):
        check(base_url=server.url, max_cost=1.0)
    home().mkdir(exist_ok=True)
    prices_path().write_text('["openai:here"]\ninput = 1.00\noutput = 4.00\n')
    heard = Heard()
    check(heard, base_url=server.url, max_cost=1.0)
    assert heard.usages[0].cost is not None


def test_a_budget_smaller_than_a_first_pipeline(server: Server) -> None:
    with pytest.raises(SettingsError, match="--max-tokens 500: a first pipeline takes more than 10,000 tokens"):
        check(base_url=server.url, max_tokens=500)
    assert server.requests == []


@pytest.mark.parametrize(
    ("character", "arguments", "said"),
    [
        (None, [], "Nothing answers at"),
        (lambda ask: Reply("bad key", status=401), [], "refuses the key"),
        pytest.param(good, ["--max-tokens", "500"], "--max-tokens 500", marks=pytest.mark.slow),
        pytest.param(
            good, ["--analyst-model", "gpt-4o"], "--analyst-model 'gpt-4o' is not known", marks=pytest.mark.slow
        ),
    ],
)
def test_the_command_ends_with_2_and_leaves_nothing(
    character: Character | None, arguments: list[str], said: str, tmp_path: Path, home: Path
) -> None:
    with serving(character or good) as server:
        url = server.url if character else "http://127.0.0.1:9/v1"
        command = [
            sys.executable,
            "-m",
            "improve.cli",
            "run",
            "digits",
            "--model",
            "openai:here",
            "--base-url",
            url,
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    left = subprocess.run(
        [sys.executable, "-m", "improve.cli", "runs"], capture_output=True, text=True, env=os.environ, check=False
    )
    assert "There is no run yet" in left.stdout
    assert not (home / "runs").exists() or list((home / "runs").iterdir()) == []


def blind(ask: Ask) -> Reply:
    """As vLLM says it for a model of text."""
    if ask.pictures and ask.body["model"] == "here":
        return Reply("here is not a multimodal model", status=400)
    return good(ask)


def test_a_model_that_takes_no_picture_is_found_before_the_run() -> None:
    with serving(blind) as server, pytest.raises(SettingsError) as refused:
        check(base_url=server.url, show_images=True)
    assert "--show-images: openai:here" in str(refused.value)
    assert "is not a multimodal model" in str(refused.value)
    assert "--analyst-model" in str(refused.value)


def test_only_the_analyst_has_to_see() -> None:
    with serving(blind) as server:
        check(base_url=server.url, show_images=True, role_models={"analyst": "openai:seeing"})
        seen = [ask.body["model"] for ask in server.requests if ask.pictures]
    assert seen == ["seeing"]


def test_the_playbook_is_shown_nothing() -> None:
    with pytest.raises(SettingsError, match="--show-images goes with a language model that sees"):
        check(model="playbook", show_images=True)
