"""A run and its data base: a server instead of files, one that goes away, a file that is locked or damaged, and what pruning leaves. Jobs are instant."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from checkpoints import database
from checkpoints.database import database_url
from checkpoints.home import home
from checkpoints.lock import run_lock
from checkpoints.retention import prune_runs
from checkpoints.saver import open_checkpointer
from checkpoints.store import open_store
from graph.run import resume, run
from schema.errors import DatabaseAway, RunStopped
from schema.events import Event
from tests.checkpoints.server import PASSWORD, QUOTED, Server
from tests.graph.test_resume import Jobs, photos, services, settings

__all__ = ["photos"]


def at(moment: str, act: Callable[[], object]) -> Callable[[Event], None]:
    """Acts once, at the event that reads so: its kind, node and iteration."""
    done: list[str] = []

    def watch(event: Event) -> None:
        words = [type(event).__name__, getattr(event, "node", ""), str(getattr(event, "iteration", ""))]
        if not done and " ".join(word for word in words if word) == moment:
            done.append(moment)
            act()

    return watch


def test_a_run_on_a_server_stops_and_goes_on_and_leaves_no_password(photos: Path, postgres: Server) -> None:
    with pytest.raises(RunStopped):
        run(settings(photos), name="r", services=services(Jobs(stopped=1)))
    resume("r", services=services())
    resume("r", iterations=2, services=services())
    assert open_store().run("r").status == "finished"
    assert [row.iteration for row in open_store().ledger("r")] == [0, 1, 2]
    assert not list(home().glob("*.sqlite*"))
    import psycopg

    url = database_url()
    assert url
    with psycopg.connect(postgres.conninfo(url.database or "")) as connection:
        kept = [str(row) for table in TABLES for row in connection.execute(f"SELECT * FROM {table}").fetchall()]  # type: ignore[arg-type] # fmt: skip
    kept += [file.read_bytes().decode(errors="replace") for file in home().rglob("*") if file.is_file()]
    assert len(kept) > 20
    assert not [text for text in kept if PASSWORD in text or QUOTED in text]


TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "runs", "iterations", "jobs")


def test_a_server_that_goes_away_stops_the_run_which_goes_on_when_it_is_back(
    photos: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.5)
    try:
        with pytest.raises(DatabaseAway, match=r"PostgreSQL server .* cannot be used: .*Then: improve resume r") as told:  # fmt: skip
            run(settings(photos), name="r", services=services(), on_event=at("Proposed 1", postgres.stop))
    finally:
        postgres.start()
    assert told.value.exit_code == 3
    assert told.value.run == "r"
    resume("r", services=services())
    assert open_store().run("r").status == "finished"
    assert [row.attempts for row in open_store().ledger("r")] == [1, 1]


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


class Writer:
    """Another process, in the middle of writing."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def begin(self, path: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        if self.process:
            self.process.communicate()
            self.process = None


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.3)
    made = Writer()
    yield made
    made.end()


@pytest.mark.parametrize("name", ["checkpoints.sqlite", "experiments.sqlite"])
def test_a_locked_file_stops_the_run_which_goes_on_when_it_is_free(photos: Path, writer: Writer, name: str) -> None:
    path = home() / name
    with pytest.raises(DatabaseAway, match=rf"{path} is locked: .* for more than 0.3 s\. Find it .*improve resume r"):
        run(settings(photos), name="r", services=services(), on_event=at("Proposed 1", lambda: writer.begin(path)))
    if name == "checkpoints.sqlite":
        assert open_store().run("r").status == "stopped"
    writer.end()
    resume("r", services=services())
    assert open_store().run("r").status == "finished"
    assert [row.attempts for row in open_store().ledger("r")] == [1, 1]


def test_a_file_that_is_locked_before_the_run_began_leaves_nothing(photos: Path, writer: Writer) -> None:
    open_store()
    writer.begin(home() / "experiments.sqlite")
    with pytest.raises(DatabaseAway, match=r"experiments.sqlite is locked.*had not begun; nothing was kept"):
        run(settings(photos), name="r", services=services())
    writer.end()
    assert open_store().runs() == []
    run(settings(photos), name="r", services=services())
    assert open_store().run("r").status == "finished"


@pytest.mark.usefixtures("either_database")
def test_a_pruned_run_goes_on(photos: Path) -> None:
    with pytest.raises(RunStopped):
        run(settings(photos), name="stopped", services=services(Jobs(stopped=1)))
    run(settings(photos), name="finished", services=services())
    run(settings(photos, iterations=0), name="driven", services=services())
    with run_lock("driven"):
        done = prune_runs()
    assert (sorted(done.runs), done.driven) == (["finished", "stopped"], ["driven"])
    assert done.after < done.before
    with open_checkpointer() as saver:
        threads = [open_store().run(name).thread or name for name in (*done.runs, *done.driven)]
        kept = [len(list(saver.list({"configurable": {"thread_id": thread}}))) for thread in threads]
    assert kept[:2] == [1, 1]
    assert kept[2] > 1
    resume("stopped", services=services())
    resume("finished", iterations=2, services=services())
    for name, iterations in (("stopped", [0, 1]), ("finished", [0, 1, 2])):
        assert open_store().run(name).status == "finished"
        assert [row.iteration for row in open_store().ledger(name)] == iterations
