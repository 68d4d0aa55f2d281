"""No test reaches the user's home, a hub, or a key, or waits for the user's trainings."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from checkpoints.database import database_url, engine

if TYPE_CHECKING:
    from tests.checkpoints.server import Server

settings.register_profile("busy", deadline=None)  # the machine may be
settings.load_profile("busy")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["IMPROVE_LINE"] = f"test-{os.getpid()}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A $IMPROVE_HOME for every test, empty but for the secret that draws the splits: they are the same in every run of the tests."""
    folder = tmp_path_factory.mktemp("improve-home")
    (folder / "split.secret").write_bytes(bytes(32))
    monkeypatch.setenv("IMPROVE_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    for name in (
        "IMPROVE_WEIGHTS",
        "IMPROVE_DB_URL",
        "IMPROVE_ENV_FILE",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator["Server"]:
    """One for all tests of a session; each has a data base of its own on it."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    from tests.checkpoints.server import Server, binaries

    bin_dir = binaries()
    if bin_dir is None:
        pytest.skip("there is no PostgreSQL here: apt-get install postgresql")
    with TemporaryDirectory(prefix="improve-pg-") as folder:  # a socket's path must be short
        Path(folder).chmod(0o755)
        server = Server(Path(folder), bin_dir)
        yield server
        server.stop()


@pytest.fixture
def postgres(postgres_server: "Server", monkeypatch: pytest.MonkeyPatch) -> Iterator["Server"]:
    """IMPROVE_DB_URL names an empty data base."""
    name = postgres_server.new_database()
    monkeypatch.setenv("IMPROVE_DB_URL", postgres_server.url(name))
    url = database_url()
    assert url
    yield postgres_server
    engine(url).dispose()
    if postgres_server.process is None:  # the test stopped it, and failed before it was started again
        postgres_server.start()
    postgres_server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def either_database(request: pytest.FixtureRequest) -> str:
    """Once with the files in $IMPROVE_HOME, once with a server."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")
    return str(request.param)
