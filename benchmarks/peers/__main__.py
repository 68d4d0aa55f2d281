"""`python -m benchmarks.peers FOLDER --weights FILE --network NAME`: each set in FOLDER, by ours and by the peers.

All get the same seconds on the same cores, the same prepared images and the same weights, one after the other.
Peers learn from training and validation part together. The test labels are opened here, once for each. Answers
are kept in $IMPROVE_HOME/peers, so that a table can be gone on with.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

PEERS = ("probe", "timm", "ours")
MODULES = {"probe": "benchmarks.peers.linear_probe", "timm": "benchmarks.peers.timm_recipe"}
TITLES = {"probe": "linear probe", "timm": "timm recipe", "ours": "ours (playbook)"}
GRACE = 2.0  # times its seconds a peer may take before it is ended
Z = 1.96


class Answer(NamedTuple):
    right: np.ndarray  # bool [test images]
    seconds: float
    note: str


def on_cores(cores: str, command: list[str]) -> list[str]:
    """`cores` as taskset lists them; nothing where there is no taskset."""
    return ["taskset", "-c", cores, *command] if cores and shutil.which("taskset") else command


def environment(home: Path, line: str) -> dict[str, str]:
    """Our trainings stand in a line of their own: tables can be made side by side on other cores."""
    return {
        **os.environ,
        "IMPROVE_HOME": str(home),
        "IMPROVE_LINE": line,
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }


def labels_beside(source: Path) -> str | None:
    """The table SET.labels_train.csv beside a set, if there is one."""
    table = source.with_name(f"{source.stem}.labels_train.csv")
    return str(table) if table.exists() else None


def prepared(source: Path, home: Path) -> tuple[Path, np.ndarray]:
    """The data set as a run reads it, and its test labels."""
    os.environ["IMPROVE_HOME"] = str(home)
    from improve.data_summary import look_at_data
    from schema.settings import make_settings

    profile = look_at_data(make_settings({"dataset": str(source), "labels": labels_beside(source)})).profile
    directory = Path(profile.directory)
    return directory, np.load(directory / "private/test_labels.npy")


def answered(
    peer: str, source: Path, directory: Path, asked: argparse.Namespace, seed: int
) -> tuple[np.ndarray, float, str]:
    """Class probabilities [test images, classes], seconds by the wall, and what it did in a few words."""
    home = asked.home
    kept = home / "peers" / f"{source.stem}-{peer}-{asked.seconds:.0f}-{seed}.npy"
    told = kept.with_suffix(".json")
    if told.exists():
        said = json.loads(told.read_text())
        return np.load(kept), said["seconds"], said["note"]
    kept.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    note = _ours(source, asked, seed, kept) if peer == "ours" else _peer(peer, directory, asked, seed, kept)
    seconds = time.monotonic() - began
    told.write_text(json.dumps({"seconds": seconds, "note": note}))
    return np.load(kept), seconds, note


def _peer(peer: str, directory: Path, asked: argparse.Namespace, seed: int, out: Path) -> str:
    command = [
        sys.executable,
        "-m",
        MODULES[peer],
        str(directory),
        str(out),
        "--seconds",
        str(asked.seconds),
        "--seed",
        str(seed),
    ]
    command += ["--network", asked.network, "--weights", str(asked.weights), "--padding", asked.padding]
    done = subprocess.run(
        on_cores(asked.cores, command),
        env=environment(asked.home, asked.cores),
        capture_output=True,
        text=True,
        timeout=GRACE * asked.seconds + 120,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{peer}: {done.stderr[-2000:]}")
    return done.stdout.strip().split("\n")[-1]


def _ours(source: Path, asked: argparse.Namespace, seed: int, out: Path) -> str:
    name = f"{source.stem}-{asked.seconds:.0f}-{seed}"[:60]
    labels = labels_beside(source)
    program = "import sys; from improve.cli import main; sys.exit(main())"
    command = [
        sys.executable,
        "-P",
        "-c",
        program,
        "run",
        str(source),
        "--name",
        name,
        "--budget",
        f"{asked.seconds:.0f}s",
        "--seed",
        str(seed),
    ]
    command += [
        "--weights-dir",
        str(asked.weights_dir),
        "--no-download",
        *(["--labels", labels] if labels else []),
    ]
    with out.with_suffix(".log").open("w") as log:
        subprocess.run(
            on_cores(asked.cores, command),
            env=environment(asked.home, asked.cores),
            stdout=log,
            stderr=log,
            timeout=GRACE * asked.seconds + 120,
            check=False,
        )
    from checkpoints.store import open_store

    row = open_store().run(name)
    if row.best is None:
        sys.exit(f"ours: {out.with_suffix('.log').read_text()[-2000:]}")
    jobs = asked.home / "runs" / name / "iterations" / f"{row.best.iteration:04d}" / "jobs"
    shutil.copy(next(jobs.glob("*-s0/work/test.npy")), out)
    changes = len(open_store().ledger(name)) - 1
    first = f", first pipeline {row.first.test.value:.3f}" if changes and row.first and row.first.test else ""
    return f"{changes} changes{first}"


def interval(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Of ours minus theirs over the same images, in points: mean and half of the 95 % interval."""
    difference = ours.astype(float) - theirs.astype(float)
    return 100 * float(difference.mean()), 100 * Z * float(difference.std(ddof=1)) / len(difference) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--weights", type=Path, required=True, help="safetensors file of the network that the peers take"
    )
    parser.add_argument("--network", required=True, help="its timm name")
    parser.add_argument("--padding", default="", help="its pad_type, which ours finds out by itself")
    parser.add_argument("--weights-dir", type=Path, help="for ours, default: the folder of --weights")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--cores", default="0", help="as taskset lists them")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--peers", default=",".join(PEERS))
    home = Path(os.environ.get("IMPROVE_HOME", "~/.improve")).expanduser()
    parser.add_argument("--home", type=Path, default=home)
    asked = parser.parse_args()
    asked.weights_dir = asked.weights_dir or asked.weights.parent
    peers = asked.peers.split(",")
    titles = " | ".join(TITLES[peer] for peer in peers)
    print(f"| set | test | {titles} | ours minus the best of the others |")
    print("|---" * (len(peers) + 3) + "|")
    for source in sorted(path for path in asked.folder.iterdir() if path.is_dir() or path.suffix == ".zip"):
        if asked.only and source.stem not in asked.only:
            continue
        directory, labels = prepared(source, asked.home)
        found: dict[str, list[Answer]] = {}
        for peer in peers:
            for seed in range(asked.seeds):
                rows, seconds, note = answered(peer, source, directory, asked, seed)
                found.setdefault(peer, []).append(Answer(rows.argmax(1) == labels, seconds, note))
        print(line(source.stem, len(labels), found), flush=True)


def line(name: str, images: int, found: dict[str, list[Answer]]) -> str:
    cells = []
    for answers in found.values():
        scores = [answer.right.mean() for answer in answers]
        spread = f" ± {np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""
        cells.append(
            f"{np.mean(scores):.3f}{spread} ({np.mean([one.seconds for one in answers]):.0f} s; {answers[0].note})"
        )
    others = {peer: answers for peer, answers in found.items() if peer != "ours"}
    against = ""
    if "ours" in found and others:
        best = max(others, key=lambda peer: float(np.mean([answer.right.mean() for answer in others[peer]])))
        ours, theirs = (np.mean([answer.right for answer in found[peer]], axis=0) for peer in ("ours", best))
        mean, half = interval(ours, theirs)
        against = f"{mean:+.1f} ± {half:.1f} points ({TITLES[best]})"
    return f"| {name} | {images:,} | {' | '.join(cells)} | {against} |"


if __name__ == "__main__":
    main()
