"""How a folder of difficult inputs is read: one line for each, to be held against what is right.

    python -m benchmarks.readings CASES [--run] [--only NAME...] > table.md

CASES holds a folder for each case with a README that begins with a command (`improve run data ...`) and says what is right, and the data
beside it. Each case is inspected (`improve inspect`, with the options of its command that concern the data); with --run the command itself is run instead.
Traces back to Python code, and commands that take too long, are told as such.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

INSPECTED = {"--labels", "--file-column", "--label-column", "--layout", "--label-pattern", "--group", "--group-pattern"}
LONGEST = 1500  # characters of what was said
SECONDS = 300


def commands(case: Path) -> list[list[str]]:
    """The words after `improve run` of the README's command: for each input, if the case has several."""
    lines = (case / "README").read_text(encoding="utf-8").splitlines()
    line = next((line for line in lines if line.startswith("improve run")), "improve run data")
    words = [word for word in shlex.split(line.split(";")[0].split("(")[0])[2:] if word != "..."]
    words += [] if "--iterations" in words else ["--iterations", "0", "--train-limit", "5s"]
    if (case / words[0]).is_file():  # one of several in its folder
        folder = (case / words[0]).parent
        return [[str(file.relative_to(case)), *words[1:]] for file in sorted(folder.iterdir())]
    return [words]


def inspected(words: list[str]) -> list[str]:
    """Only what concerns the data."""
    kept = [words[0]]
    for option, value in pairwise([*words[1:], ""]):
        kept += [option, value] if option in INSPECTED else []
    return ["inspect", *kept, "--json"]


def told(words: list[str], case: Path, home: str) -> tuple[str, str]:
    """The verdict and what was said."""
    improve = str(Path(sys.executable).with_name("improve"))
    began = time.monotonic()
    try:
        done = subprocess.run(
            [improve, *words],
            cwd=case,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=os.environ | {"IMPROVE_HOME": home},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "TOO LONG", ""
    seconds = time.monotonic() - began
    said = done.stderr.strip()
    if "Traceback" in said:
        return "TRACEBACK", said[-LONGEST:]
    if done.returncode == 0 and words[0] == "inspect":
        facts = json.loads(done.stdout)
        counts = {split: sum(found.values()) for split, found in facts["counts"].items()}
        aside = [f"set aside {len(facts['set_aside'])}, e.g. {facts['set_aside'][0]}"] if facts["set_aside"] else []
        lines = [facts["reading"], f"{len(facts['classes'])} classes {facts['classes'][:12]} {counts}", *aside]
        lines += [f"not used {facts['unused']}"] if facts["unused"] else []
        return f"read ({seconds:.1f} s)", "; ".join(lines + facts["notes"])
    if words[0] == "run" and done.returncode == 0:
        return f"ran ({seconds:.0f} s)", " / ".join(done.stdout.strip().splitlines())
    return f"exit {done.returncode} ({seconds:.1f} s)", said or done.stdout.strip()[-LONGEST:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--run", action="store_true", help="the command itself, trainings included")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    print("| case | input | verdict | what was said |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        for case in sorted(options.cases.iterdir()):
            if not (case / "README").is_file() or (options.only and case.name not in options.only):
                continue
            for words in commands(case):
                verdict, said = told(["run", *words] if options.run else inspected(words), case, home)
                shown = " ".join(said.split())[:LONGEST].replace("|", "\\|")
                print(f"| {case.name} | {words[0]} | {verdict} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
