"""Which data base it is, and what a person is told when it cannot be used. Nobody is told the password."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from checkpoints.database import database_url
from checkpoints.home import prepare_home
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from sandbox.environment import KEPT
from sandbox.job import NEEDED
from schema.errors import DatabaseRefused, InputError, SettingsError
from tests.checkpoints.server import PASSWORD, QUOTED, Server

BAD_URLS = {
    "no address": (f"{PASSWORD} oh", "is not the address of a data base"),
    "a password as it is": (f"postgresql://improve:{PASSWORD}@localhost/runs", "is not the address of a data base"),
    "another password as it is": ("postgresql://improve:pa@ss@localhost/runs", "is not the address of a data base"),
    "a port that is none": (f"postgresql://improve:{QUOTED}@localhost:x/runs", "is not the address of a data base"),
    "another kind": (f"mysql://improve:{QUOTED}@localhost/runs", "begins with mysql://, which is not supported"),
    "another driver": (f"postgresql+psycopg2://improve:{QUOTED}@localhost/runs", "which is not supported"),
    "a file": ("sqlite:///runs.sqlite", "or nothing, for files in IMPROVE_HOME"),
}


@pytest.mark.parametrize(("url", "message"), BAD_URLS.values(), ids=BAD_URLS)
def test_an_address_that_cannot_be_used_is_told_without_repeating_it(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPROVE_DB_URL", url)
    with pytest.raises(SettingsError, match="Expected postgresql.psycopg://USER:PASSWORD@HOST/DATABASE") as told:
        open_store()
    assert message in str(told.value)
    assert_silent(told.value)


def assert_silent(error: BaseException | None) -> None:
    """In the whole chain that a traceback would show."""
    while error:
        for secret in (PASSWORD, QUOTED):
            assert secret not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def open_saver() -> None:
    with open_checkpointer():
        pass


OPENED = [pytest.param(open_store, id="store"), pytest.param(open_saver, id="checkpointer")]


@pytest.mark.parametrize("opened", OPENED)
def test_a_refused_password_is_told_and_not_shown(
    opened: Callable[[], object], postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPROVE_DB_URL", postgres_server.url("postgres", password="s3cret-and-wrong"))
    with pytest.raises(DatabaseRefused, match='password authentication failed for user "improve"') as told:
        opened()
    assert "s3cret-and-wrong" not in f"{told.value!r}"
    assert told.value.exit_code == 2


@pytest.mark.parametrize("opened", OPENED)
def test_a_server_that_does_not_answer_is_named(
    opened: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("IMPROVE_DB_URL", f"postgresql+psycopg://improve:{QUOTED}@127.0.0.1:9/runs")
    with pytest.raises(DatabaseRefused, match=r"server 127.0.0.1:9/runs cannot be used: .*refused.*Check that it runs") as told:  # fmt: skip
        opened()
    assert_silent(told.value)


def test_a_data_base_that_is_not_there_is_named(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPROVE_DB_URL", postgres_server.url("nowhere"))
    with pytest.raises(DatabaseRefused, match='database "nowhere" does not exist'):
        open_store()


def test_without_the_extra_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPROVE_DB_URL", "postgresql://improve@localhost/runs")
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    with pytest.raises(SettingsError, match=r"uv pip install .* '\.\[postgres\]'"):
        database_url()


def test_the_command_shows_a_sentence_and_no_traceback(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPROVE_DB_URL", postgres_server.url("postgres", password="s3cret-and-wrong"))
    done = subprocess.run([sys.executable, "-m", "improve.cli", "runs"], capture_output=True, text=True, check=False)
    assert done.returncode == InputError.exit_code
    assert "password authentication failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr + done.stdout


def test_neither_a_job_nor_its_supervisor_is_told_where_the_data_base_is() -> None:
    assert "IMPROVE_DB_URL" not in (*KEPT, *NEEDED)


def test_both_stores_outlive_a_restart_of_their_server(postgres: Server) -> None:
    with open_checkpointer() as saver:
        assert open_store().runs() == []
        assert list(saver.list(None)) == []
        postgres.stop()
        postgres.start()
        assert list(saver.list(None)) == []
        assert open_store().runs() == []


OVERWRITE = {"at its beginning": 0, "in its middle": 0.5}


@pytest.mark.parametrize("where", OVERWRITE)
@pytest.mark.parametrize("name", ["checkpoints.sqlite", "experiments.sqlite"])
def test_a_damaged_file_is_named(name: str, where: str) -> None:
    home = prepare_home()
    filled()
    path = home / name
    whole = path.read_bytes()
    start = int(len(whole) * OVERWRITE[where])
    path.write_bytes(whole[:start] + b"\xa5" * (len(whole) - start))
    command = ["runs", "--prune"] if name == "checkpoints.sqlite" else ["show", "t"]
    done = subprocess.run([sys.executable, "-m", "improve.cli", *command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert f"{path} is damaged (" in done.stderr
    assert done.returncode == InputError.exit_code


def filled() -> None:
    """Both files with something in them, as a run leaves it."""
    from tests.checkpoints.test_saver import config, counting
    from tests.checkpoints.test_store import PIPELINE, ROW, SETTINGS

    store = open_store()
    store.create_run("t", SETTINGS, "none")
    for number in range(40):
        row = ROW.model_copy(update={"iteration": number})
        store.put_iteration("t", row, pipeline=PIPELINE, proposal=None, fault=None, training=None)
    store.engine.dispose()
    with open_checkpointer() as saver:
        counting(saver, 60).invoke({"n": 0, "words": []}, config("t") | {"recursion_limit": 100})
