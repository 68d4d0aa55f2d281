"""Jobs for real: a supervisor, a warm process, and generated code that behaves, breaks, fills up, hangs and hides."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from sandbox import artifacts, job
from sandbox.isolation import cgroup, tiers
from schema.errors import JobsUnavailable, RunStopped
from schema.job import JobResult
from schema.pipeline import Pipeline
from schema.settings import Tier
from tests.sandbox.jobs import ENDLESS, GB, lay_out_data, spec, training, until
from tests.scripted import MODEL, PIPELINE, TRAINING, WAITING

GROUPS = pytest.mark.skipif(cgroup.home() is None, reason="no control group (cgroup v2) can be made here")
KERNEL = pytest.mark.skipif(
    not ((home := cgroup.home()) and cgroup.limits(home)),
    reason="no control group with the kernel's limits can be made here",
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One run with one warm supervisor, at a path that is long and has spaces."""
    folder = tmp_path_factory.mktemp("run") / ("a folder with spaces " * 8) / "run é"
    lay_out_data(folder)
    yield folder
    job.shutdown(folder)


Run = Callable[..., tuple[Path, JobResult]]


@pytest.fixture
def run(run_dir: Path, request: pytest.FixtureRequest) -> Run:
    def start(pipeline: Pipeline = PIPELINE, wait: bool = True, **limits: float) -> tuple[Path, JobResult]:
        directory = run_dir / "iterations" / "0001" / "jobs" / request.node.name.replace("[", "-").replace("]", "")
        job.start(directory, spec(run_dir, pipeline, **limits))
        return directory, job.wait(directory) if wait else None  # type: ignore[return-value]

    return start


def test_a_good_job_leaves_predictions_a_curve_and_a_plan(run: Run) -> None:
    directory, result = run()
    assert result.ok, result.fault
    assert [outcome.step for outcome in result.steps] == ["smoke", "train", "predict"]
    rows = artifacts.probabilities(directory, "validation", 20, 2)
    assert isinstance(rows, np.ndarray)
    assert (rows.argmax(1) == np.arange(20) % 2).mean() > 0.8
    assert artifacts.curve(directory)
    plan = artifacts.plan(directory)
    assert plan is not None
    assert plan.epochs >= 1


@pytest.mark.parametrize("tier", tiers.ISOLATED)
def test_a_job_that_leaves_nothing_needs_one_sandbox_for_all_its_steps(
    run_dir: Path, tier: Tier, tmp_path: Path
) -> None:
    """Another one takes seconds, and is for what a step has left in /tmp. Its own rehearsals leave nothing there."""
    found = tiers.probe(tier, tmp_path)
    if not found.works:
        pytest.skip(f"{tier}: {found.text}")
    supervisors = []
    for number in (1, 2):
        directory = run_dir / "iterations" / "0001" / "jobs" / f"{tier}-{number}"
        job.start(directory, spec(run_dir, PIPELINE).model_copy(update={"tier": tier}))
        result = job.wait(directory)
        assert result.ok, result.fault
        supervisor = psutil.Process(int((run_dir / "supervisor" / "supervisor.lock").read_text()))
        supervisors.append([process.pid for process in supervisor.children()])
    assert supervisors[0] == supervisors[1]


def test_a_finished_job_is_read_and_not_run_again(run: Run) -> None:
    directory, result = run()
    again, second = run()
    assert (again, second) == (directory, result)
    assert len((directory / "starts").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "pipeline", "kind", "component"),
    [
        (
            "wrong classes",
            PIPELINE.with_code("model", MODEL.replace("info.num_classes", "7")),
            "ContractError",
            "model",
        ),
        ("raises", training("raise ValueError('no')"), "ValueError", "training"),
        ("exits", training("raise SystemExit(0)"), "SystemExit", "training"),
        ("no weights", training("return None"), "ContractError", "training"),
        (
            "another form",
            training("model = torch.nn.Sequential(model, torch.nn.Linear(info.num_classes, info.num_classes))"),
            "ContractError",
            "training",
        ),
        (
            "nan",
            training("import math\nloaders.train.transform = lambda x: x.float() * math.nan"),
            "NonFiniteLoss",
            "training",
        ),
    ],
)
def test_a_fault_names_the_component(run: Run, name: str, pipeline: Pipeline, kind: str, component: str) -> None:
    _, result = run(pipeline)
    assert result.fault is not None
    assert (result.fault.kind, result.fault.component) == (kind, component), result.fault


@pytest.mark.parametrize(
    ("name", "body", "limits", "kind"),
    [
        ("endless", "while True:\n    pass", {"smoke_seconds": 3}, "time"),
        (
            "deaf",
            "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(99)",
            {"smoke_seconds": 3},
            "time",
        ),
        ("flood", "while True:\n    print('x' * 1000)", {"output_bytes": 5_000_000}, "output"),
        ("memory", "held = [torch.ones(2**26) for _ in range(200)]", {"memory_bytes": 2 * GB}, "memory"),
        (
            "disk",
            "import time\nfor i in range(99):\n    open(f'f{i}', 'wb').write(b'x' * 10_000_000)\n    time.sleep(0.1)",
            {"disk_bytes": 50_000_000},
            "disk",
        ),
        (
            "processes",
            "import os, time\nfor _ in range(60):\n    if os.fork() == 0:\n        time.sleep(60)\ntime.sleep(60)",
            {"processes": 40},
            "processes",
        ),
        ("abort", "import os\nos.abort()", {}, "died"),
    ],
)
def test_a_limit_ends_the_job_and_says_which(
    run: Run, name: str, body: str, limits: dict[str, float], kind: str
) -> None:
    directory, result = run(training(body), **limits)
    assert result.fault is not None
    assert result.fault.kind == kind, result.fault
    assert (directory / "train.log").stat().st_size < 3_000_000


def test_out_of_memory_the_engineer_is_told_what_was_used_what_was_running_and_what_to_make_smaller(run: Run) -> None:
    greedy = "held = []\nfor images, targets in loaders.with_batch_size(12).train:\n    while True:\n        held.append(bytearray(20_000_000))"
    _, result = run(training(greedy), memory_bytes=1_500_000_000)
    assert result.fault is not None
    assert (result.fault.kind, result.fault.component) == ("memory", "training")
    assert re.search(
        r"seen with 1\.[4-9] GiB of the 1\.4 GiB that a job may use\. The machine has \d+", result.fault.message
    )
    assert "Batches of 12 at 8 x 8 were running: halve the batch size (6)" in result.fault.message


def test_an_endless_loop_is_found_by_its_line(run: Run) -> None:
    _, result = run(training("while True:\n    pass"), smoke_seconds=3)
    assert result.fault is not None
    assert result.fault.component == "training"


def test_nothing_of_a_job_outlives_it(run: Run) -> None:
    body = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        print('daemon', os.getpid(), flush=True)\n        time.sleep(600)\n    os._exit(0)"
    directory, _ = run(training(body))
    daemon = int(re.findall(r"daemon (\d+)", (directory / "train.log").read_text())[0])
    assert not psutil.pid_exists(daemon) or psutil.Process(daemon).status() == psutil.STATUS_ZOMBIE


def test_out_of_time_the_best_weights_so_far_are_scored(run: Run) -> None:
    directory, result = run(ENDLESS, train_seconds=2)
    assert result.ok, result.fault
    assert result.cut
    assert isinstance(artifacts.probabilities(directory, "test", 20, 2), np.ndarray)


def test_a_training_is_not_cut_because_it_says_so(run: Run) -> None:
    """Who is compared with it would get as few epochs as it says it had."""
    lie = 'out = log._metrics\nclass Lie(type(log)):\n    def keep(self, model):\n        super().keep(model)\n        out.open(\'a\').write(\'{"epoch": 1, "seconds": 0.1}\\n{"cut": true}\')\nlog.__class__ = Lie'
    directory, result = run(training(lie))
    assert b'{"cut": true}' in (directory / "work" / "metrics.jsonl").read_bytes()
    assert (result.ok, result.cut) == (True, False), result.fault


def test_a_training_that_was_cut_goes_on_with_more_time(run: Run) -> None:
    pipeline = PIPELINE.with_code("training", WAITING.replace("SHARE", "1.6"))
    directory, first = run(pipeline, train_seconds=2)
    curve = artifacts.curve(directory)
    assert (first.cut, curve[-1].epoch, artifacts.planned_epochs(curve)) == (True, 2, 6)
    job.go_on(directory)
    _, second = run(pipeline, train_seconds=2)
    assert (second.ok, second.cut, artifacts.curve(directory)[-1].epoch) == (True, False, 6), second.fault
    assert job.times_cut(directory) == 1


def test_a_killed_supervisor_takes_the_training_with_it_and_the_job_begins_anew(run: Run, run_dir: Path) -> None:
    directory, _ = run(ENDLESS, wait=False, train_seconds=3)
    until(directory, "running", "train")
    supervisor = int((run_dir / "supervisor" / "supervisor.lock").read_text())
    children = psutil.Process(supervisor).children(recursive=True)
    os.kill(supervisor, 9)
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    assert job.status(directory).state == "interrupted"
    result = job.wait(directory)
    assert result.ok, result.fault
    assert len((directory / "starts").read_text().splitlines()) == 2


@pytest.mark.slow
@GROUPS
def test_a_daemon_that_hides_and_outlives_both_who_watch_it_is_ended_at_the_next_start(run: Run, run_dir: Path) -> None:
    body = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        print('daemon', os.getpid(), flush=True)\n        os.closerange(0, 100)\n        os.chdir('/')\n        os.execve('/bin/sleep', ['[kworker]', '600'], {})\n    os._exit(0)\ntime.sleep(600)"
    directory, _ = run(training(body), wait=False)
    log = directory / "train.log"
    while not (log.exists() and (found := re.findall(r"daemon (\d+)", log.read_text()))):
        time.sleep(0.05)
    daemon = psutil.Process(int(found[0]))
    supervisor = psutil.Process(int((run_dir / "supervisor" / "supervisor.lock").read_text()))
    both = [supervisor, *supervisor.children()]
    for process in both:  # stopped first, so that neither can act on the other's end
        process.suspend()
    for process in both:
        process.kill()
    psutil.wait_procs(both, timeout=5)
    assert daemon.is_running()
    assert daemon.status() != psutil.STATUS_ZOMBIE
    job.warm(run_dir, spec(run_dir, PIPELINE).access)
    assert not psutil.wait_procs([daemon], timeout=10)[1]


@KERNEL
@pytest.mark.parametrize(
    ("name", "body", "limits", "kind"),
    [
        ("memory", "held = b'x' * 6_000_000_000", {"memory_bytes": 1_500_000_000}, "memory"),
        (
            "threads",
            "import threading, time\nfor _ in range(4000):\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            {"processes": 8},
            "processes",
        ),
    ],
)
def test_what_is_too_fast_for_the_watch_the_kernel_refuses(
    run: Run, name: str, body: str, limits: dict[str, float], kind: str
) -> None:
    _, result = run(training(body), **limits)
    assert result.fault is not None
    assert result.fault.kind == kind, result.fault


def test_a_driver_that_stops_leaves_the_job_running(run: Run) -> None:
    directory, _ = run(ENDLESS, wait=False, train_seconds=3)
    with pytest.raises(RunStopped):
        job.wait(directory, stop=lambda: job.status(directory).step == "train")
    assert job.status(directory).state == "running"
    assert job.wait(directory).ok


def test_a_job_that_is_stopped_says_so(run: Run) -> None:
    directory, _ = run(ENDLESS, wait=False, train_seconds=60)
    until(directory, "running", "train")
    job.stop(directory)
    result = job.wait(directory)
    assert result.fault is not None
    assert result.fault.kind == "stopped"


def test_a_job_that_is_being_stopped_can_be_asked_for_again_at_once(run: Run) -> None:
    directory, _ = run(ENDLESS, wait=False, train_seconds=3)
    until(directory, "running", "train")
    job.stop(directory)
    _, result = run(ENDLESS, train_seconds=3)
    assert result.ok, result.fault
    assert len((directory / "starts").read_text().splitlines()) == 2


def test_another_pipeline_under_the_same_name_does_not_get_the_old_ones_result(run: Run) -> None:
    directory, first = run(PIPELINE)
    kept = (directory / "work" / "validation.npy").read_bytes()
    _, second = run(PIPELINE.with_code("training", TRAINING.replace("lr=0.01", "lr=0.0001")))
    assert first.ok and second.ok
    assert (directory / "work" / "validation.npy").read_bytes() != kept
    (aside,) = directory.parent.glob(f"{directory.name}.replaced-*")
    assert (aside / "work" / "validation.npy").read_bytes() == kept


def test_the_script_sees_none_of_the_persons_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("IMPROVE_DB_URL", "postgresql+psycopg://me:sk-secret@localhost/runs")
    directory, _ = run(training("import os, json\nprint('environment', json.dumps(dict(os.environ)))"))
    seen = json.loads(re.findall("environment (.*)", (directory / "train.log").read_text())[0])
    assert "sk-secret" not in str(seen)
    supervisor = psutil.Process(int((job._folder(directory) / "supervisor.lock").read_text()))
    assert "sk-secret" not in str(supervisor.environ())
    assert seen["HF_HUB_OFFLINE"] == "1"


def test_a_result_that_another_version_wrote_is_named_and_not_waited_for(run: Run) -> None:
    directory, _ = run()
    file = directory / "result.json"
    newer = json.loads(file.read_text()) | {"of_a_newer_version": 1}
    file.write_text(json.dumps(newer))
    with pytest.raises(JobsUnavailable, match=r"result.json cannot be read: another version of IMPROVE wrote it"):
        job.wait(directory)
    assert json.loads(file.read_text()) == newer


def test_a_supervisor_that_cannot_live_is_not_started_for_ever(tmp_path: Path, run_dir: Path) -> None:
    directory = tmp_path / "iterations" / "0001" / "jobs" / "train"
    directory.mkdir(parents=True)
    (directory / "job.json").write_text('{"of": "another version"}')
    job.start(directory, spec(run_dir, PIPELINE))
    with pytest.raises(JobsUnavailable, match=r"ended 5 times without a result. Its last words: .*supervisor.log"):
        job.wait(directory)
