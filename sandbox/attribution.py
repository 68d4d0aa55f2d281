"""Whose fault it was: the deepest line of the traceback inside a component's own section, or the limit that was passed."""

import re
from typing import Any

from sandbox.assemble import sections
from schema.job import Limits, Step
from schema.pipeline import Component, Fault, Stage

LIMITS = {
    "time": "the {step} step ran longer than its {seconds:.0f} s and was ended; look for an endless loop or too much work per step",
    "memory": "the job used more than {memory:.1f} GB of memory and was ended; use a smaller batch, model or resolution",
    "output": "the job printed more than {output:.0f} MB and was ended; print at most a line per epoch",
    "disk": "the job wrote more than {disk:.1f} GB and was ended; keep only what the contract asks for",
    "processes": "the job started more than {processes} processes and was ended; the loaders need no workers",
    "stopped": "the job was stopped by you",
}
FRAME = re.compile(r'File "[^"]*pipeline\.py", line (\d+) in (\w+)')
EXCERPT = 1800


def fault_from(
    step: Step,
    account: Any,
    log: str,
    script: str,
    *,
    exit_status: int | None,
    limit: str | None,
    limits: Limits,
) -> Fault:
    """The Fault of a step that did not end well. `account` (work/fault.json) and `log` are untrusted text."""
    stage: Stage = step
    if limit:
        return _limit_fault(stage, limit, log, script, limits)
    if not isinstance(account, dict) or not isinstance(account.get("frames"), list):
        return _died(stage, log, script, exit_status)
    frames = [frame for frame in account["frames"] if isinstance(frame, dict)]
    component, line = _place(frames, script)
    explicit = account.get("component") if account.get("component") in {"data", "model", "training"} else None
    probe = account.get("probe") if account.get("probe") in {"data", "model", "training"} else None
    if explicit and explicit != component:
        line = None
    return Fault(
        stage=stage,
        kind=str(account.get("kind"))[:80],
        component=explicit or component or probe,
        line=line,
        message=_printable(str(account.get("message")))[:800] or "no message",
        excerpt=_excerpt(frames, script, account),
    )


def _place(frames: list[dict[str, Any]], script: str) -> tuple[Component | None, int | None]:
    """The deepest frame inside a component, with its line counted from the component's first."""
    own = sections(script)
    for frame in reversed(frames):
        if frame.get("file") != "pipeline.py" or not isinstance(frame.get("line"), int):
            continue
        for component, lines in own.items():
            if frame["line"] in lines:
                return component, frame["line"] - lines.start + 1
    return None, None


def _excerpt(frames: list[dict[str, Any]], script: str, account: dict[str, Any]) -> str:
    """The traceback's own lines, from the first one in a component on, with component-relative numbers."""
    lines: list[str] = []
    for frame in frames:
        component, line = _place([frame], script)
        where = f"{component} component, line {line}" if component else f"{frame.get('file')}"
        if component or lines:
            lines.append(f"  {where}, in {frame.get('name')}\n    {frame.get('text')}")
    text = "\n".join([*lines[:4], *lines[4:][-8:], f"{account.get('kind')}: {account.get('message')}"])
    return "\n".join(_printable(line) for line in text.split("\n"))[-EXCERPT:]


def _limit_fault(stage: Stage, limit: str, log: str, script: str, limits: Limits) -> Fault:
    seconds = {"smoke": limits.smoke_seconds, "train": limits.train_seconds}.get(stage, limits.predict_seconds)
    message = LIMITS[limit].format(
        step=stage,
        seconds=seconds,
        memory=limits.memory_bytes / 2**30,
        output=limits.output_bytes / 2**20,
        disk=limits.disk_bytes / 2**30,
        processes=limits.processes,
    )
    component, line = _dumped_place(log, script)
    return Fault(stage=stage, kind=limit, component=component, line=line, message=message, excerpt=_tail(log))


def _dumped_place(log: str, script: str) -> tuple[Component | None, int | None]:
    """Where the process was, from faulthandler's dump: its first line is the deepest."""
    frames = [{"file": "pipeline.py", "line": int(number)} for number, _ in FRAME.findall(log)]
    return _place(frames[::-1], script)


def _died(stage: Stage, log: str, script: str, exit_status: int | None) -> Fault:
    component, line = _dumped_place(log, script)
    how = f"signal {-exit_status}" if exit_status is not None and exit_status < 0 else f"exit status {exit_status}"
    message = f"the process ended with {how} and left no account; its last output is below"
    return Fault(stage=stage, kind="died", component=component, line=line, message=message, excerpt=_tail(log))


def _tail(log: str) -> str:
    return "\n".join(_printable(line)[:300] for line in log.split("\n")[-15:])[-EXCERPT:]


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
