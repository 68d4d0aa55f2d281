"""A real HTTP server on loopback that speaks the OpenAI protocol, and models of known character behind it."""

import base64
import contextlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from schema.pipeline import COMPONENTS, Component
from tests.scripted import DATA, MODEL, PIPELINE, TRAINING

KEY = "sk-test-0123456789abcdef"
CODE: dict[Component, str] = {"data": DATA, "model": MODEL, "training": TRAINING}


class Ask(NamedTuple):
    """What a request wants, read off its prompt as a model would."""

    role: str  # architect, data, model, training, analyst, summariser, or none
    turn: str  # greet, design, takeover, write, repair, analyse, summarise, again
    iteration: int  # the analyst's last one
    number: int  # of this turn of this role in this iteration, from 1
    body: dict[str, Any]

    @property
    def text(self) -> str:
        return text_of(self.body["messages"][-1])

    @property
    def pictures(self) -> list[bytes]:
        """That came with the question."""
        parts = self.body["messages"][-1]["content"]
        addresses = [part["image_url"]["url"] for part in parts if isinstance(part, dict) and "image_url" in part]
        return [base64.b64decode(address.removeprefix("data:image/png;base64,")) for address in addresses]


def text_of(message: dict[str, Any]) -> str:
    parts = message["content"]
    return parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)


@dataclass(frozen=True)
class Reply:
    text: str | None = ""
    status: int = 200
    finish: str = "stop"
    tool: dict[str, Any] | None = None  # a call that nobody has offered
    refusal: str | None = None
    usage: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    raw: bytes | None = None  # instead of all this
    seconds: float = 0.0  # before it answers
    reset: bool = False  # the connection breaks in the middle of the body


Character = Callable[[Ask], Reply]


def fenced(code: str) -> str:
    return f"```python\n{code.strip()}\n```"


def whole_pipeline() -> str:
    return "A linear model on the pixels.\n\n" + "\n\n".join(fenced(CODE[component]) for component in COMPONENTS)


def judgement(**own: Any) -> str:
    told = {
        "action": "change",
        "component": "training",
        "move": "train-on",
        "diagnosis": "still rising",
        "hypothesis": "more steps help",
        "instruction": "Train for more epochs.",
        "longer": False,
        "revisit": None,
    }
    return json.dumps(told | own)


def variant(component: Component, number: int) -> str:
    """Code that differs from all others and still works."""
    return f"{CODE[component].rstrip()}\n\n\nNOTE_{component.upper()} = {number}\n"


def good(ask: Ask) -> Reply:
    """Does what the prompts ask for, and no more."""
    if ask.turn == "greet":
        return Reply("ready")
    if ask.turn == "design":
        return Reply(whole_pipeline() if "three components" in ask.text else "Keep it linear.")
    if ask.turn == "takeover":
        return Reply("KEEP" if "the single word KEEP" in ask.text else fenced(CODE[ask.role]))  # type: ignore[index]
    if ask.turn in {"write", "repair", "again"} and ask.role in COMPONENTS:
        number = 100 * ask.iteration + 10 * ask.number + len(ask.turn)
        return Reply("As asked.\n\n" + fenced(variant(ask.role, number)))  # type: ignore[arg-type]
    if ask.role == "analyst":
        return Reply(judgement(move=f"change-{ask.iteration}"))
    return Reply("It taught something.")


@dataclass
class Server:
    character: Character = good
    requests: list[Ask] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    url: str = ""
    _counts: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    _iteration: int = 0

    def understood(self, body: dict[str, Any]) -> Ask:
        messages = body["messages"]
        system = next((m["content"] for m in messages if m["role"] == "system"), "")
        last = text_of(messages[-1])
        named = re.findall(
            r"^# You are the (Project Architect|Data|Model|Training|Performance Analyst)", system, re.MULTILINE
        )
        role = (
            {"Project Architect": "architect", "Performance Analyst": "analyst"}.get(named[-1], named[-1].lower())
            if named
            else ""
        )
        role = role or ("summariser" if "logbook" in system else "")
        if found := re.match(r"# Iteration (\d+) of", last):
            self._iteration = int(found[1])
        turn = _turn(last, len(messages))
        self._counts[role, turn, self._iteration] += 1
        return Ask(role, turn, self._iteration, self._counts[role, turn, self._iteration], body)


def _turn(last: str, messages: int) -> str:
    signs = {
        "greet": "Answer with the word: ready",
        "design": "Design the first pipeline",
        "takeover": "component is yours from now on",
        "write": "Carry out the instruction",
        "repair": "The pipeline failed",
        "analyse": "One JSON object",
        "summarise": "One line:",
        "zero-shot": "Generate code for training",
    }
    if messages > 2 and "Answer again, whole." in last:
        return "again"
    if "component for this design" in last:
        return "takeover"
    return next((turn for turn, sign in signs.items() if sign in last), "")


def _completion(ask: Ask, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool is not None:
        function = {"name": "answer", "arguments": json.dumps(reply.tool)}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        }
    if reply.refusal:
        message["refusal"] = reply.refusal
    sent = sum(len(str(m.get("content"))) for m in ask.body["messages"]) // 4
    out = len(reply.text or "") // 4
    told: dict[str, Any] = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": ask.body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
    }
    if reply.usage:
        told["usage"] = {
            "prompt_tokens": sent,
            "completion_tokens": out,
            "total_tokens": sent + out,
            "prompt_tokens_details": {"cached_tokens": sent // 2},
            "completion_tokens_details": {"reasoning_tokens": out // 4},
        }
    return told


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, json.dumps({"object": "list", "data": [{"id": "here", "object": "model"}]}).encode(), {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.authorizations.append(self.headers.get("Authorization", ""))
            ask = server.understood(body)
            server.requests.append(ask)
            reply = server.character(ask)
            time.sleep(reply.seconds)
            if reply.status != 200:
                error = reply.error or {"message": reply.text or "an error", "type": "error", "code": None}
                self._send(reply.status, json.dumps({"error": error}).encode(), reply.headers)
                return
            raw = reply.raw if reply.raw is not None else json.dumps(_completion(ask, reply)).encode()
            if body.get("stream") and reply.raw is None:
                self._stream(
                    _completion(ask, reply), include_usage=bool((body.get("stream_options") or {}).get("include_usage"))
                )
            elif reply.reset:
                self._break(raw)
            else:
                self._send(200, raw, reply.headers)

        def _stream(self, told: dict[str, Any], *, include_usage: bool) -> None:
            """As the protocol has it: usage comes only where it is asked for."""
            choice = told["choices"][0]
            chunk = {
                **told,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": choice["message"], "finish_reason": "stop"}],
            }
            usage = chunk.pop("usage", None)
            events = [chunk, *([{**chunk, "choices": [], "usage": usage}] if include_usage else [])]
            data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self._send(200, data.encode(), {"Content-Type": "text/event-stream"})

        def _break(self, raw: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw[: len(raw) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            with contextlib.suppress(OSError):  # whoever asked has hung up
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


class _Threads(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """A connection that was broken on purpose."""


@contextlib.contextmanager
def serving(character: Character = good) -> Iterator[Server]:
    server = Server(character)
    http = _Threads(("127.0.0.1", 0), _handler(server))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


def moods(by_iteration: dict[int, Character], otherwise: Character = good) -> Character:
    """Another character in some iterations."""
    return lambda ask: by_iteration.get(ask.iteration, otherwise)(ask)


def but(turn: str, reply: Callable[[Ask], Reply], times: int = 1, otherwise: Character = good) -> Character:
    """Good, but for the first `times` answers in a turn of an iteration."""
    return lambda ask: reply(ask) if ask.turn == turn and ask.number <= times else otherwise(ask)


def dressed(turn: str, dress: Callable[[str], str]) -> Character:
    """Good answers in an odd dress."""

    def character(ask: Ask) -> Reply:
        reply = good(ask)
        return replace(reply, text=dress(reply.text or "")) if ask.turn == turn else reply

    return character


__all__ = [
    "CODE",
    "KEY",
    "PIPELINE",
    "Ask",
    "Character",
    "Reply",
    "Server",
    "but",
    "dressed",
    "fenced",
    "good",
    "judgement",
    "moods",
    "serving",
    "variant",
    "whole_pipeline",
]
