"""The experiment store keeps what is written, once, however often a node runs."""

import sqlite3
import subprocess
import sys

import pytest

from checkpoints.home import prepare_home
from checkpoints.store import Store, open_store
from schema.errors import RunNameTaken, UnknownRun
from schema.job import JobResult, StepOutcome
from schema.pipeline import Fault, Pipeline
from schema.score import Score
from schema.settings import Settings
from schema.team import LedgerRow, Proposal, Usage

SETTINGS = Settings(dataset="photos")
PIPELINE = Pipeline(data="d = 1", model="m = 1", training="t = 1")
ROW = LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first", validation=0.9)
SCORE = Score(metric="accuracy", value=0.9, n=10, low=0.6, high=0.98, accuracy=0.9, per_class=[0.8, 1.0], confusions=[])
RESULT = JobResult(ok=True, steps=[StepOutcome(step="train", seconds=2.5, exit=0)], seconds=3.0, tier="none")


@pytest.fixture
def store(either_database: str) -> Store:
    prepare_home()
    made = open_store()
    made.create_run("demo", SETTINGS, "none")
    return made


def test_a_run_comes_back_as_it_was_asked_for(store: Store) -> None:
    row = store.run("demo")
    assert (row.settings, row.status, row.sandbox) == (SETTINGS, "running", "none")


def test_a_name_is_given_once(store: Store) -> None:
    with pytest.raises(RunNameTaken, match="improve resume demo"):
        store.create_run("demo", SETTINGS, "none")


def test_an_unknown_run_brings_close_names(store: Store) -> None:
    with pytest.raises(UnknownRun, match="Did you mean demo"):
        store.run("dem")


def test_an_iteration_written_twice_is_there_once(store: Store) -> None:
    fault = Fault(stage="smoke", kind="TypeError", message="no")
    for _ in range(2):
        store.put_iteration(
            "demo", ROW, previous=None, pipeline=PIPELINE, proposal=Proposal(action="stop"), fault=fault, training=None
        )
    assert store.ledger("demo") == [ROW]
    assert store.pipeline("demo", 0) == PIPELINE
    assert store.fault("demo", 0) == fault
    assert store.training("demo", 0) is None


def test_totals_count_a_job_once_and_every_call(store: Store) -> None:
    usage = Usage(role="analyst", model="m", tokens_in=10, tokens_out=5, cost=0.5)
    for _ in range(2):
        store.put_job("demo", 0, 1, 0, RESULT)
        store.add_call("demo", 0, "analyst", usage)
    totals = store.totals("demo")
    assert (totals.jobs, totals.training_seconds, totals.tokens, totals.cost) == (1, 2.5, 30, 1.0)
    assert [call.usage for call in store.calls("demo")] == [usage, usage]


def test_the_cost_is_unknown_where_a_price_is(store: Store) -> None:
    store.add_call("demo", 0, "analyst", Usage(role="analyst", model="m", tokens_in=10))
    assert store.totals("demo").cost is None


def test_scores_are_kept_by_seed_and_split(store: Store) -> None:
    store.put_score("demo", 0, 0, "validation", SCORE)
    assert store.score("demo", 0, 0, "validation") == SCORE
    assert store.score("demo", 0, 1, "validation") is None
    assert store.score("demo", 0, 0, "test") is None


WRITER = """
import sys
from checkpoints.store import open_store
from tests.checkpoints.test_store import PIPELINE, RESULT, ROW
for i in range(20):
    open_store().put_job("demo", i, 1, int(sys.argv[1]), RESULT)
    code = PIPELINE.with_code("data", f"d = {i}")
    open_store().put_iteration(sys.argv[2], ROW, pipeline=code, proposal=None, fault=None, training=None)
"""


def test_two_processes_write_at_once(store: Store) -> None:
    """Jobs of one run, and components that two runs share."""
    for seed in range(3):
        store.create_run(f"r{seed}", SETTINGS, "none")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(seed), f"r{seed}"]) for seed in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(store.jobs("demo")) == 60


@pytest.mark.slow
@pytest.mark.usefixtures("postgres")
def test_processes_that_begin_at_once_make_the_tables_of_a_server_once() -> None:
    prepare_home()
    begin = "from checkpoints.saver import open_checkpointer\nfrom checkpoints.store import open_store\nopen_store().runs()\nwith open_checkpointer(): pass"
    processes = [subprocess.Popen([sys.executable, "-c", begin]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3


def test_text_of_a_model_with_a_nul_character_is_kept(store: Store) -> None:
    store.set_design("demo", "one\0two")
    store.put_iteration(
        "demo",
        ROW.model_copy(update={"summary": "a\0b"}),
        pipeline=PIPELINE.with_code("data", "d = '\0'"),
        proposal=None,
        fault=None,
        training=None,
    )
    assert store.run("demo").design in {"onetwo", "one\0two"}
    assert store.ledger("demo")[0].summary in {"ab", "a\0b"}


def test_a_table_of_calls_from_before_there_were_any_is_made_anew() -> None:
    home = prepare_home()
    with sqlite3.connect(home / "experiments.sqlite") as old:
        old.execute("CREATE TABLE llm_calls (call_id VARCHAR PRIMARY KEY, run VARCHAR, usage JSON)")
    made = open_store(f"sqlite:///{home / 'experiments.sqlite'}")
    made.create_run("demo", SETTINGS, "none")
    made.add_call("demo", 0, "analyst", Usage(role="analyst", model="m", tokens_in=10, cost=0.1))
    assert made.spent("demo").tokens == 10


def test_a_store_of_an_older_version_gets_the_columns_that_came_since() -> None:
    home = prepare_home()
    url = f"sqlite:///{home / 'old.sqlite'}"
    with sqlite3.connect(home / "old.sqlite") as old:
        old.execute(
            "CREATE TABLE runs (name VARCHAR(64) PRIMARY KEY, status VARCHAR(16), reason VARCHAR, sandbox VARCHAR(16), settings JSON, "
            "created VARCHAR(40), seconds FLOAT, profile JSON, design VARCHAR, first JSON, best JSON)"
        )
        row = ("old", "stopped", "", "none", SETTINGS.model_dump_json(), "2026-01-01T00:00:00+00:00", 1.5, "")
        old.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL, NULL)", row)
    made = open_store(url)
    assert (made.run("old").settings, made.run("old").thread) == (SETTINGS, None)
    made.put_iteration("old", ROW, previous=None, pipeline=PIPELINE, proposal=None, fault=None, training=None)
    assert made.ledger("old") == [ROW]


OPEN = """
import sys
from checkpoints.home import checkpoints_path
from checkpoints.saver import SqliteCheckpointer
from checkpoints.store import open_store
sys.stdin.readline()
open_store().runs()
with SqliteCheckpointer.open(checkpoints_path()) as saver:
    saver.get_tuple({"configurable": {"thread_id": "none"}})
"""


@pytest.mark.slow
def test_many_processes_may_begin_in_a_new_home_at_once() -> None:
    command = [sys.executable, "-c", OPEN]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, told
