"""Gets a candidate the pretrained weights that it asks for, before it runs: named in its source, or by a job that lacked them."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from sandbox.contract import parsed
from sandbox.environment import ROOT
from sandbox.pretrained.names import Asked, asked_for
from schema.errors import RunStopped
from schema.events import WeightsFetched
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline
from schema.pretrained import Pretrained

IMPORTING = 180.0  # seconds until the first word: timm and torchvision are imported
LONGEST = 3600.0  # seconds for all of them
MOST = 8  # asked for by one candidate
PATIENCE = 60.0  # seconds over which a download has to be
SLOWEST = 20_000  # bytes per second
ENVIRONMENT = {
    "HF_HUB_DISABLE_XET": "1",  # one way to download: plain HTTP, which proxies and mirrors of the hub speak, too
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}
Tell = Callable[[WeightsFetched], None]


def missing_in(pipeline: Pipeline, have: Pretrained) -> dict[str, tuple[Component, int]]:
    """What the source asks for and no earlier candidate has asked for, with the first place that asks: the first `MOST`."""
    found: dict[str, tuple[Component, int]] = {}
    for component in COMPONENTS:
        tree = parsed(component, pipeline.code(component))
        for asked in [] if isinstance(tree, Fault) else asked_for(tree):
            if not _known(asked, have):
                found.setdefault(asked.what, (component, asked.line))
    return dict(list(found.items())[:MOST])


def _known(asked: Asked, have: Pretrained) -> bool:
    name = asked.what.removeprefix("timm:")
    return name in have.files if asked.file else asked.what in have.asked


def fetch(
    asked: list[str], have: Pretrained, tell: Tell = lambda _: None, stop: Callable[[], bool] = lambda: False
) -> tuple[Pretrained, dict[str, str]]:
    """With what could be found or downloaded, and why the others could not. A download goes on for as long as it makes headway.

    `stop` true raises RunStopped: what was fetched so far stays in the cache.
    """
    orders = json.dumps({"asked": asked, "files": have.files, "any_licence": have.any_licence})
    offline = {} if have.download else {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as errors, subprocess.Popen(
        [sys.executable, "-P", "-m", "sandbox.pretrained.fetch"],
        cwd=ROOT, env={**os.environ, **ENVIRONMENT, **offline, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
    ) as process:  # fmt: skip
        assert process.stdin
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(orders.encode())
            got, failed, reason = _answers(process, have, tell, stop)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        reason = reason or _last_words(errors)
    return got, failed | {what: reason for what in asked if what not in {*got.asked, *failed}}


def _answers(
    process: "subprocess.Popen[bytes]", have: Pretrained, tell: Tell, stop: Callable[[], bool]
) -> tuple[Pretrained, dict[str, str], str]:
    """What there is then, what cannot be had and why, and why the rest was given up."""
    failed: dict[str, str] = {}
    headway = _Headway()
    for told in _lines(process, headway, stop):
        if "fetching" in told:
            headway.seen(told["fetching"], told["bytes"])
            tell(WeightsFetched(name=told["fetching"], bytes=told["bytes"], total=told["total"]))
            continue
        headway.over()
        if "failed" in told:
            failed[told["asked"]] = told["failed"]
        else:
            licences = {told["name"]: told["licence"]} if told.get("licence") else {}
            have = have.with_all_of(
                Pretrained(files=told["files"], cached=told["cached"], asked=(told["asked"],), licences=licences)
            )
    return have, failed, headway.reason


def _lines(
    process: "subprocess.Popen[bytes]", headway: "_Headway", stop: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """What the process says, for as long as it makes headway."""
    assert process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while not headway.lost():
            if stop():
                raise RunStopped(
                    "the download of pretrained weights was stopped; what is whole of it stays in the cache"
                )
            if not ready.select(0.25):
                continue
            block = os.read(process.stdout.fileno(), 65536)
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from (json.loads(line) for line in lines if line.startswith(b"{"))


@dataclass
class _Headway:
    """Whether a download is worth waiting for."""

    began: float = field(default_factory=time.monotonic)
    name: str = ""
    marks: list[tuple[float, int]] = field(default_factory=list)  # (when, bytes), the first PATIENCE seconds back
    reason: str = ""

    def seen(self, name: str, count: int) -> None:
        if name != self.name:
            self.name, self.marks = name, []
        now = time.monotonic()
        while len(self.marks) > 1 and self.marks[1][0] <= now - PATIENCE:
            self.marks.pop(0)
        self.marks.append((now, count))

    def over(self) -> None:
        self.name, self.marks, self.began = "", [], time.monotonic()

    def lost(self) -> bool:
        now = time.monotonic()
        if self.name and self.marks and now - self.marks[0][0] >= PATIENCE:
            speed = (self.marks[-1][1] - self.marks[0][1]) / (now - self.marks[0][0])
            if speed < SLOWEST:
                self.reason = (
                    f"the download of {self.name} came with less than {SLOWEST // 1000} kB a second and was given up"
                )
        elif now - self.began > (LONGEST if self.name else IMPORTING):
            self.reason = (
                f"the download of {self.name or 'pretrained weights'} took longer than {LONGEST / 60:.0f} minutes"
            )
        return bool(self.reason)


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    text = errors.read().decode(errors="replace").strip()
    return (text.split("\n")[-1] or "the program that looks them up ended without a word")[:300]


def fault(component: Component | None, line: int | None, what: str, why: str, have: Pretrained) -> Fault:
    """For the engineer who asked for weights that cannot be had."""
    there = ", ".join(sorted(have.files)) or "none"
    name = what.partition(":")[2]
    return Fault(
        stage="contract", kind="weights", component=component, line=line,
        message=f"The pretrained weights {name!r} cannot be had: {why}. Use weights that are on disk (timm names: {there}), or build the model without.",
    )  # fmt: skip
