"""Whose fault it was: the deepest line of the traceback inside a component's own section, or the limit that was passed."""

import re
from typing import Any

from sandbox.assemble import sections, toolbox_signatures
from schema.job import Limit, Limits, Step
from schema.pipeline import COMPONENTS, Component, Fault, Stage

LIMITS: dict[Limit, str] = {
    "time": "the {step} step ran longer than its {seconds:.0f} s and was ended; look for an endless loop or too much work per step",
    "memory": "the job used more than {memory:.1f} GB of memory and was ended.",
    "output": "the job printed more than {output:.0f} MB and was ended; print at most a line per epoch",
    "disk": "the job wrote more than {disk:.1f} GB and was ended; keep only what the contract asks for",
    "processes": "the job started more than {processes} processes and was ended; the loaders need no workers",
    "stopped": "the job was stopped by you",
}
# A job can write such a line, too, and Python refuses to read a number of thousands of digits.
FRAME = re.compile(r'File "[^"]*pipeline\.py", line (\d{1,7}) in ([^\n]+)')
PATH = re.compile(r"/(?:[^/\s'\"]+/)+([^/\s'\"]+)")
EXCERPT = 1800
FRAMES = 40  # as many as the harness writes
# What usually helps, by what the exception says. The first that fits is told.
WAYS_OUT = (
    (
        r"LocalEntryNotFound|OfflineMode|offline mode|Hugging ?Face|huggingface|urlopen error|Name or service not known",
        "A job has no network. Pretrained weights are fetched before it runs where the source names them as plain text, "
        "e.g. load_pretrained(model, info, 'resnet18') or timm.create_model('resnet18', pretrained=True).",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch|Given groups=|expected input.*to have \d+ channels|normalized_shape",
        "A layer's input size does not fit what comes in: follow the shapes from info.channels and the image size, or pool to 1x1 before the head.",
    ),
    (
        r"Expected all tensors to be on the same device|Input type .* and weight type .* should be the same|on device",
        "Keep everything on info.device and in one dtype; batches and model are there already.",
    ),
    (
        r"does not require grad",
        "Something froze the parameters or left the graph: look for detach(), no_grad() or requires_grad_(False).",
    ),
    (
        r"scalar outputs|Expected floating point type for target|Target \d+ is out of bounds|expected scalar type|multi-target not supported|Expected target size",
        "The loss gets logits [B, num_classes] and either labels int64 [B] or soft targets float [B, num_classes].",
    ),
    (
        r"The size of tensor a .* must match",
        "Two tensors of different sizes meet: check strides, padding and the crop or resize before.",
    ),
    (r"deepcopy protocol", "Copy a model before it has seen a batch, or use EMA(model) of the toolbox."),
)


def fault_from(
    step: Step,
    account: Any,
    log: str,
    script: str,
    *,
    exit_status: int | None,
    limit: Limit | None,
    limits: Limits,
) -> Fault:
    """The Fault of a step that did not end well. `account` (work/fault.json) and `log` are untrusted text."""
    stage: Stage = step
    if limit:
        return _limit_fault(stage, limit, log, script, limits)
    if not isinstance(account, dict) or not isinstance(account.get("frames"), list):
        return _died(stage, log, script, exit_status)
    frames = [frame for frame in account["frames"][-FRAMES:] if isinstance(frame, dict)]
    component, line = _place(frames, script)
    explicit = next((name for name in COMPONENTS if name == account.get("component")), None)
    probe = next((name for name in COMPONENTS if name == account.get("probe")), None)
    if explicit and explicit != component:
        line = None
    return Fault(
        stage=stage,
        kind=_kind(account),
        component=explicit or component or probe,
        line=line,
        message=_message(account),
        excerpt=_excerpt(frames, script, account),
        wants=_printable(_text(account.get("wants"), 300)) or None,
    )


def _kind(account: dict[str, Any]) -> str:
    return _printable(_text(account.get("kind"), 80)).strip() or "error"


def _text(value: Any, limit: int = 2000) -> str:
    """What the harness writes as text; of anything else nothing. Cut first: patterns take long on what never ends."""
    return value[:limit] if isinstance(value, str) else ""


def _message(account: dict[str, Any]) -> str:
    """The exception's own words without the machine's paths, and what usually helps."""
    kind, said = _kind(account), _printable(PATH.sub(r"\1", _text(account.get("message"))))[:800].strip()
    if kind == "SystemExit":
        said = f"the code left the process by itself (exit status {said or 0})"
    hint = next((hint for pattern, hint in WAYS_OUT if re.search(pattern, f"{kind}: {said}")), "")
    known = toolbox_signatures()
    miscalled = re.match(r"(\w+?)(?:\.__init__)?\(\) (?:missing|got|takes)", said)
    signature = f"In the toolbox: {known[miscalled[1]]}." if miscalled and miscalled[1] in known else ""
    return " ".join(part for part in (said or "no message", hint, signature) if part)


def _place(frames: list[dict[str, Any]], script: str) -> tuple[Component | None, int | None]:
    """The deepest frame inside a component, with its line counted from the component's first."""
    own = sections(script) if script else {}  # a race may have no script
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
        where = f"{component} component, line {line}" if component else _text(frame.get("file"), 200)
        if component or lines:
            lines.append(f"  {where}, in {_text(frame.get('name'), 200)}\n    {_text(frame.get('text'), 200)}")
    text = "\n".join([*lines[:4], *lines[4:][-8:], f"{_kind(account)}: {_text(account.get('message'))}"])
    return "\n".join(_printable(PATH.sub(r"\1", line)) for line in text.split("\n"))[-EXCERPT:]


def _limit_fault(stage: Stage, limit: Limit, log: str, script: str, limits: Limits) -> Fault:
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
    return Fault(
        stage=stage, kind=limit, cause=limit, component=component, line=line, message=message, excerpt=_tail(log)
    )


def _dumped_place(log: str, script: str) -> tuple[Component | None, int | None]:
    """Where the process was, from faulthandler's dump: its first line is the deepest."""
    frames = [{"file": "pipeline.py", "line": int(number)} for number, _ in FRAME.findall(log)]
    return _place(frames[::-1], script)


def _died(stage: Stage, log: str, script: str, exit_status: int | None) -> Fault:
    component, line = _dumped_place(log, script)
    how = f"signal {-exit_status}" if exit_status is not None and exit_status < 0 else f"exit status {exit_status}"
    message = f"the process ended with {how} and left no account; its last output is below"
    return Fault(
        stage=stage, kind="died", cause="died", component=component, line=line, message=message, excerpt=_tail(log)
    )


def _tail(log: str) -> str:
    return "\n".join(_printable(PATH.sub(r"\1", line))[:300] for line in log.split("\n")[-15:])[-EXCERPT:]


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
