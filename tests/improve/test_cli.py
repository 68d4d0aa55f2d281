"""The command as a person types it: in a process of its own, with exit codes and messages."""

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from checkpoints.store import open_store
from improve.cli import offer_to_end
from improve.run_settings import seconds_of
from improve.show import readable_bytes
from sandbox import job
from sandbox.isolation import tiers
from schema.errors import SettingsError
from schema.job import JobStatus
from schema.settings import Tier
from tests.checkpoints.test_database import filled
from tests.scripted import image_folder

ROOT = Path(__file__).resolve().parents[2]


def improve(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "improve.cli", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2m", 120), ("1h30m", 5400), ("45", 45), ("1.5h", 5400), ("0.5", 0.5), ("1m30s", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text, "--budget") == seconds


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (56_000, "56 kB"), (1_234_567, "1.2 MB"), (2_100_000_000, "2.1 GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert readable_bytes(size) == text


@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "5d", "m", "1h 30m"])
def test_bad_durations_name_the_option_and_the_forms(text: str) -> None:
    with pytest.raises(SettingsError, match="--budget.*90s, 20m, 1h30m"):
        seconds_of(text, "--budget")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere"], "no folder or file nowhere"),
        (["run", "digits", "--model", "gpt-4o"], "Expected playbook, or a language model: openai:NAME"),
        (["run", "digits", "--model", "gpt-4o"], "Did you mean openai:gpt-4o?"),
        (["run", "digits", "--analyst-model", "openai:x"], "--analyst-model goes with a language model"),
        (
            ["run", "digits", "--strategy", "zero"],
            "--strategy 'zero': expected iterative, global or zero-shot. Did you mean zero-shot?",
        ),
        (["run", "digits", "--metric", "f1"], "quadratic_kappa. Did you mean macro_f1?"),
        (["run", "digits", "--sandbox", "docker"], "--sandbox 'docker': expected bwrap, landlock, none or auto."),
        (["run", "digits", "--target", "99"], "--target 99: accuracy lies between 0 and 1. Did you mean 0.99?"),
        (["run", "digits", "--accept", "always"], "--accept 'always': expected better, paired or expected."),
        (["run", "digits", "--train-limit", "soon"], "--train-limit 'soon' is not a duration"),
        (["run", "digits", "--name", "a/b"], "1 to 64 letters"),
        (["run", "digits", "--weights-dir", "nowhere"], "--weights-dir: no folder"),
        (["run", "digits", "--iterations", "-1"], "--iterations -1: expected a whole number from 0 to 10000."),
        (["run", "digits", "--gpus", "0", "--device", "cpu"], "--gpus 0 and --device cpu: choose one of the two"),
        (["run", "digits", "--jobs-per-cpu", "0"], "--jobs-per-cpu 0: expected a whole number from 1 to 64."),
        (["run", "digits", "--jobs-per-gpu", "100"], "--jobs-per-gpu 100: expected"),
        (["resume", "nothing"], "No run named 'nothing'"),
        (["show", "nothing"], "No run named 'nothing'"),
        (["predict", "nothing", "a.jpg"], "No run named 'nothing'"),
        (["export", "nothing", "--to", "x"], "No run named 'nothing'"),
    ],
)
def test_a_mistake_is_exit_code_2_and_a_sentence(arguments: list[str], message: str) -> None:
    done = improve(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Input should" not in done.stderr
    assert done.stdout == ""  # no run is said to have started


def test_the_version_is_told() -> None:
    done = improve("--version")
    assert (done.returncode, done.stdout) == (0, f"improve {version('improve')}\n")


def test_a_refused_data_set_leaves_no_run_behind(tmp_path: Path, home: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert improve("run", str(tmp_path / "empty")).returncode == 2
    assert open_store().runs() == []
    assert list((home / "runs").iterdir()) == []


def test_a_run_name_is_suggested_only_if_it_is_near() -> None:
    filled()
    assert "Did you mean" not in improve("show", "nowhere-near").stderr


def test_without_a_home_directory_the_message_says_what_to_set() -> None:
    """As a container does it that runs under a number without a name."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who is in no list")
    unnamed = 54321
    with pytest.raises(KeyError):
        pwd.getpwuid(unnamed)
    environment = {key: value for key, value in os.environ.items() if key not in {"HOME", "IMPROVE_HOME"}}
    code = (  # imported before, since that user may not read where Python lies
        "import sys; sys.argv = ['improve', 'runs']; import improve.doctor, improve.show, checkpoints.retention; "
        f"import os; from improve.cli import main; os.setuid({unnamed}); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == 2, done.stderr
    assert "You have no home directory to keep runs in" in done.stderr
    assert "export IMPROVE_HOME=" in done.stderr


def test_an_unwritable_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPROVE_HOME", "/proc/improve")
    done = improve("run", str(image_folder(tmp_path / "photos")))
    assert done.returncode == 2
    assert "IMPROVE_HOME /proc/improve cannot be written" in done.stderr


def test_without_runs_the_list_says_how_to_begin() -> None:
    done = improve("runs")
    assert done.returncode == 0
    assert "improve run FOLDER" in done.stdout


@pytest.mark.usefixtures("either_database")
def test_runs_shows_sizes_and_prune_gives_room_back(home: Path) -> None:
    filled()
    (home / "runs" / "t").mkdir(parents=True)
    (home / "runs" / "t" / "weights.safetensors").write_bytes(b"0" * 1_234_567)
    listed = improve("runs").stdout.splitlines()
    assert re.match(r"t +stopped .* 1\.2 MB +photos$", listed[0])
    assert re.match(r"data bases: .*checkpoints.* \d+ kB · .*experiments.* \d+ kB$", listed[1])
    before = json.loads(improve("runs", "--json").stdout)
    assert [run["bytes"] for run in before["runs"]] == [1_234_567]
    assert len(before["databases"]) == 2
    pruned = json.loads(improve("runs", "--prune", "--json").stdout)
    assert (pruned["runs"], pruned["driven"]) == (["t"], [])
    assert pruned["after"] < pruned["before"]


def _decoders(pid: int) -> int:
    with contextlib.suppress(psutil.Error):
        return sum("decoding_process" in str(child.cmdline()) for child in psutil.Process(pid).children(recursive=True))
    return 0


@pytest.mark.parametrize("tier", tiers.ISOLATED)
def test_ctrl_c_while_images_are_decoded_ends_the_run_before_it_began(tier: Tier, tmp_path: Path, home: Path) -> None:
    """As a terminal does it: every process of the group is interrupted, those that decode too."""
    if not (found := tiers.probe(tier, home)).works:
        pytest.skip(f"{tier}: {found.text}")
    photos = image_folder(tmp_path / "photos", per_class=2500, size=8)
    process = subprocess.Popen(
        [sys.executable, "-m", "improve.cli", "run", str(photos), "--sandbox", tier],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not _decoders(process.pid):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in told) == (3, False), told
    assert "Stopped" in told


def test_a_second_ctrl_c_ends_the_training_of_this_run_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {name: home / "runs" / name / "iterations" / "0000" / "jobs" / "1-s0" for name in ("mine", "theirs")}
    for folder in jobs.values():
        folder.mkdir(parents=True)
        (folder / "job.json").write_text("{}")
    monkeypatch.setattr(job, "status", lambda _: JobStatus(state="running"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def impatient(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", impatient)
    offer_to_end("mine")
    assert (jobs["mine"] / "stop").exists()
    assert not (jobs["theirs"] / "stop").exists()


def test_a_second_ctrl_c_takes_a_training_out_of_the_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "runs" / "mine" / "iterations" / "0000" / "jobs" / "1-s0"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text("{}")
    monkeypatch.setattr(job, "status", lambda _: JobStatus(state="waiting", waits_for="CPU"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def impatient(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", impatient)
    offer_to_end("mine")
    assert "A training stays in line in the background" in capsys.readouterr().err
    assert (folder / "stop").exists()


def test_the_command_line_does_not_import_torch() -> None:
    code = (
        "import sys, improve.cli, graph.run, improve.view, improve.show, agents.team; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_person_runs_shows_predicts_and_takes_home(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    done = improve("run", str(photos), "--iterations", "1", "--train-limit", "10s", "--name", "mine", "--folds", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("test accuracy ")
    assert done.stdout.splitlines()[-1].endswith("run mine")
    assert "mine" in improve("runs").stdout
    predicted = improve("predict", "mine", str(photos / "left" / "0.png"), str(tmp_path / "absent.png"))
    assert re.search(r"0\.png  class left: \d+\.\d %", predicted.stdout)
    assert "absent.png: does not exist" in predicted.stderr
    home = tmp_path / "home-taken"
    assert improve("export", "mine", "--to", str(home)).returncode == 0
    alone = subprocess.run(
        [
            sys.executable,
            "-I",
            "pipeline.py",
            "predict",
            "--weights",
            "weights.safetensors",
            str(photos / "right" / "1.png"),
        ],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    assert "right" in alone.stdout
    command = [sys.executable, "-I", "pipeline.py", "train", "--data", str(photos), "--out", "again"]
    trained = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert trained.returncode == 0, trained.stderr
    winner = Path(json.loads((home / "improve-export.json").read_text())["paths"]["script"]).parent
    epochs = [(folder / "metrics.jsonl").read_text().count('"epoch"') for folder in (winner, home / "again")]
    planned = re.search(r"'epochs': (\d+)", (home / "pipeline.py").read_text())
    assert planned
    assert epochs[0] <= epochs[1] <= int(planned[1])  # as the run planned it: at home the clock does not cut it short
    for place in (photos, photos / "left" / "0.png" / "here"):
        refused = improve("export", "mine", "--to", str(place))
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False), refused.stderr
