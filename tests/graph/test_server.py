"""`langgraph dev`, as Studio uses it: the form, the events, forks, reviews, cancelling, shutting down, and the same runs from the command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client

from checkpoints.home import run_dir, server_token
from checkpoints.store import open_store
from graph.run import resume, run
from nodes.services import Services
from sandbox import job
from schema.errors import RunBusy, RunStopped
from schema.settings import Settings
from tests.graph.served import QUICK, SLOW, TEAM
from tests.scripted import image_folder

ROOT = Path(__file__).resolve().parents[2]
SERVICES = Services(team=lambda *_: TEAM)


class Server:
    """The real one, on a port of its own, with the project's configuration and a scripted team."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
        config["dependencies"] = [str(ROOT)]
        config["graphs"]["improve"]["path"] = "tests.graph.served:graph"
        config["checkpointer"]["path"] = str(ROOT / config["checkpointer"]["path"])
        config["http"]["app"] = str(ROOT / config["http"]["app"])
        (folder / "langgraph.json").write_text(json.dumps(config))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "langgraph_cli",
            "dev",
            "--no-browser",
            "--no-reload",
            "--port",
            str(self.port),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "IMPROVE_SERVER_DATA": str(self.folder.parent)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--n-jobs-per-worker", "4"], cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        for _ in range(600):
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/ok").status_code == 200:
                    self.client = get_sync_client(url=f"http://127.0.0.1:{self.port}", api_key=server_token())
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process
        self.client.close()
        self.process.send_signal(number)
        self.process.wait(60)
        self.process = None


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    made = Server(folder)
    made.start()
    yield made
    if made.process:
        made.stop()


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(image_folder(tmp_path / "photos"))


def asked(photos: str, **more: Any) -> dict[str, Any]:
    return {
        "dataset": photos,
        "iterations": 1,
        "train_seconds": 30,
        "accept": "better",
        "max_seeds": 1,
        "device": "cpu",
        "folds": 1,
        "until_budget": True,
    } | more


def until(happens: Any, seconds: float = 240.0) -> Any:
    for _ in range(int(seconds * 10)):
        if found := happens():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def training(name: str) -> Path | None:
    """The directory of the job that trains now, in an iteration after the first."""
    running = [path.parent for path in run_dir(name).glob("iterations/000[1-9]/jobs/*/job.json")]
    return next(
        (folder for folder in running if job.status(folder).step == "train" and job.status(folder).state == "running"),
        None,
    )


def test_the_form_the_picture_and_what_is_wrong_with_the_input(server: Server, photos: str) -> None:
    (assistant,) = server.client.assistants.search()
    form = server.client.assistants.get_schemas(assistant["assistant_id"])["input_schema"]
    fields = form["properties"]
    assert all({"title", "description"} <= field.keys() for field in fields.values())
    assert form["required"] == ["dataset"]
    assert fields["strategy"]["enum"] == ["iterative", "global", "zero-shot"]
    assert fields["iterations"]["default"] == 20

    edges = server.client.assistants.get_graph(assistant["assistant_id"])["edges"]
    words = {(edge["source"], edge["target"]): edge.get("data") for edge in edges}
    assert words["assemble", "repair"] == "check failed"
    assert words["review", "sandbox"] == "approve"

    thread = server.client.threads.create()
    with pytest.raises(Exception, match="iterations"):
        server.client.runs.wait(thread["thread_id"], "improve", input=asked(photos, iterations=-1))
    with pytest.raises(Exception, match="Did you mean iterations"):
        server.client.runs.wait(thread["thread_id"], "improve", input=asked(photos, iteration=1))


@pytest.mark.slow
def test_a_run_tells_what_it_does_and_is_seen_by_the_command(server: Server, photos: str) -> None:
    thread = server.client.threads.create()
    told = set()
    for part in server.client.runs.stream(
        thread["thread_id"], "improve", input=asked(photos, name="leaves"), stream_mode="custom"
    ):
        told.add(part.data.get("kind") if part.event == "custom" else None)
    assert {"dataset_ready", "node_entered", "job_progress", "settled", "finished"} <= told
    assert open_store().run("leaves").status == "finished"
    assert [row.iteration for row in open_store().ledger("leaves")] == [0, 1]
    assert server.client.threads.get_state(thread["thread_id"])["values"]["best"] in {0, 1}


@pytest.mark.slow
def test_a_fork_with_another_proposal_is_a_branch_of_its_own(server: Server, photos: str) -> None:
    thread = server.client.threads.create()["thread_id"]
    server.client.runs.wait(thread, "improve", input=asked(photos, name="leaves", iterations=2))
    history = server.client.threads.get_history(thread, limit=200)
    proposed = next(s for s in history if s["next"] == ["training_engineer"] and s["values"]["iteration"] == 1)
    edited = proposed["values"]["proposal"] | {"move": "2"}
    fork = server.client.threads.update_state(
        thread, {"proposal": edited}, as_node="performance_analyst", checkpoint=proposed["checkpoint"]
    )
    server.client.runs.wait(thread, "improve", input=None, checkpoint=fork["checkpoint"])
    store = open_store()
    assert [row.iteration for row in store.ledger("leaves")] == [0, 3, 4]
    assert [row.iteration for row in store.ledger("leaves", 2)] == [0, 1, 2]
    assert store.pipeline("leaves", 3).training == QUICK
    assert store.pipeline("leaves", 1).training == SLOW


@pytest.mark.slow
def test_a_cancel_ends_the_training_and_the_run_can_be_taken_up_again(server: Server, photos: str) -> None:
    thread = server.client.threads.create()["thread_id"]
    going = server.client.runs.create(thread, "improve", input=asked(photos, name="leaves"))
    directory = until(lambda: training("leaves"))
    server.client.runs.cancel(thread, going["run_id"], wait=True)
    result = until(lambda: job.result(directory))
    assert result.fault.kind == "stopped"
    assert open_store().run("leaves").status == "stopped"
    server.client.runs.wait(thread, "improve", input=None)
    assert open_store().run("leaves").status == "finished"
    assert [row.verdict for row in open_store().ledger("leaves")][1] in {"accepted", "rejected"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_leaves_the_training_alone_and_takes_it_up_when_it_is_back(
    server: Server, photos: str, number: int
) -> None:
    thread = server.client.threads.create()["thread_id"]
    server.client.runs.create(thread, "improve", input=asked(photos, name="leaves"))
    directory = until(lambda: training("leaves"))
    time.sleep(11)  # the server writes down which runs are going every ten seconds
    directory = (
        until(lambda: training("leaves")) if number == signal.SIGKILL and not job.result(directory) else directory
    )
    server.stop(number)
    assert job.result(directory) or job.status(directory).state == "running"
    server.start()
    until(lambda: open_store().run("leaves").status == "finished")
    assert len((directory / "starts").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_run_of_the_server_is_resumed_by_the_command_and_the_other_way_round(server: Server, photos: str) -> None:
    thread = server.client.threads.create()["thread_id"]
    going = server.client.runs.create(thread, "improve", input=asked(photos, name="leaves"))
    until(lambda: training("leaves"))
    with pytest.raises(RunBusy, match="is being driven by process"):
        resume("leaves", services=SERVICES)
    server.client.runs.cancel(thread, going["run_id"], wait=True)
    resume("leaves", services=SERVICES)
    assert open_store().run("leaves").status == "finished"

    with pytest.raises(RunStopped):
        run(Settings.model_validate(asked(photos, review=True)), name="begun-here", services=SERVICES)
    row = open_store().run("begun-here")
    shown = until(lambda: list(server.client.threads.search(metadata={"run": "begun-here"})))
    assert [t["thread_id"] for t in shown] == [row.thread]
    state = server.client.threads.get_state(row.thread)
    assert state["next"] == ["review"]
    server.client.runs.wait(row.thread, "improve", command={"resume": {"action": "skip", "reason": "no"}})
    assert open_store().run("begun-here").status == "failed"


@pytest.mark.slow
def test_a_review_is_a_question_with_a_form(server: Server, photos: str) -> None:
    thread = server.client.threads.create()["thread_id"]
    server.client.runs.wait(thread, "improve", input=asked(photos, name="leaves", review=True, iterations=2))
    server.client.runs.wait(thread, "improve", command={"resume": {"action": "approve"}})
    (question,) = server.client.threads.get_state(thread)["interrupts"]
    assert question["value"]["proposal"]["move"] == "1"
    assert "+        time.sleep(0.1)" in question["value"]["changes"]
    with pytest.raises(Exception, match="action"):
        server.client.runs.wait(thread, "improve", command={"resume": {"action": "perhaps"}})
    answer = {"action": "edit", "component": "data", "instruction": "blur a little"}
    server.client.runs.wait(thread, "improve", command={"resume": answer})
    (question,) = server.client.threads.get_state(thread)["interrupts"]
    assert question["value"]["proposal"]["component"] == "data"
    assert "+# blur a little" in question["value"]["changes"]
    server.client.runs.wait(thread, "improve", command={"resume": {"action": "skip", "reason": "too slow"}})
    server.client.runs.wait(thread, "improve", command={"resume": {"action": "approve"}})
    rows = open_store().ledger("leaves")
    assert [(row.verdict) for row in rows][:2] == ["first", "skipped"]
    assert "too slow" in rows[1].summary
    assert len(rows) == 3
