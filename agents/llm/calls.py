"""One question to a language model, until it is answered: rate limits and outages are waited out in sight, every call is counted, no key is ever shown."""

import json
import os
import random
import time
from dataclasses import dataclass
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage

from agents.llm.prices import cost_of, prices
from agents.llm.providers import NO_KEY, Spec, address_of, chat_model, key_of, spec_of
from agents.team import Line
from schema.errors import BudgetSpent, ModelsUnavailable, RunStopped
from schema.events import ModelWaits
from schema.settings import Role, Settings
from schema.team import Usage
from schema.text import one_line

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})  # statuses that may pass
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds
LONGEST_ANSWER = 400_000  # characters
CHARACTERS_PER_TOKEN = 4  # where nobody counts
PICTURE_TOKENS = 1000  # of one of ours, about 800 x 600 pixels


@dataclass(frozen=True, slots=True)
class Seat:
    """Who asks, for which run."""

    role: Role
    settings: Settings
    line: Line

    @property
    def spec(self) -> Spec:
        return spec_of(self.settings, self.role)


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    cut: bool  # at the most tokens that the model gives
    usage: Usage


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request failed."""

    status: int | None  # None: there was no answer, or none that can be read
    reason: str
    passes: bool  # it may go better later
    retry_after: float | None = None  # seconds, as the server asks
    foreign: bool = False  # something answers that is no such server


class Refused(Exception):
    """A request that will not go better by waiting."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble


def patience() -> float:
    """Seconds that a provider may stay away before the run stops."""
    return float(os.environ.get("IMPROVE_PATIENCE", "900"))


def ask(seat: Seat, messages: list[BaseMessage], schema: dict[str, Any] | None = None) -> Answer:
    """The caller records the usage, with what it makes of the answer. Raises BudgetSpent, ModelsUnavailable, RunStopped, SettingsError."""
    _hold_to_budget(seat, messages)
    try:
        return answered(seat, messages, schema, patience())
    except Refused as refused:
        where = place_of(seat.spec, seat.settings)
        raise ModelsUnavailable(f"{seat.spec} at {where} does not answer: {refused.trouble.reason}.") from None


def _hold_to_budget(seat: Seat, messages: list[BaseMessage]) -> None:
    """Raises BudgetSpent where the question alone would go beyond it."""
    spent, question, settings = seat.line.spent(), tokens_in(messages), seat.settings
    if settings.max_tokens is not None and spent.tokens + question > settings.max_tokens:
        raise BudgetSpent(
            f"{spent.tokens:,} of the {settings.max_tokens:,} tokens are spent, and the next question has about {question:,}."
        )
    if settings.max_cost is not None and spent.cost is not None and spent.cost >= settings.max_cost:
        raise BudgetSpent(f"${spent.cost:.2f} of the ${settings.max_cost:.2f} for language models are spent.")


def tokens_in(messages: list[BaseMessage]) -> int:
    """About."""
    parts = [part for message in messages for part in message.content if isinstance(part, dict)]
    pictures: int = sum(part.get("type") == "image_url" for part in parts)
    text = sum(len(str(message.text)) for message in messages)
    return text // CHARACTERS_PER_TOKEN + pictures * PICTURE_TOKENS


def place_of(spec: Spec, settings: Settings) -> str:
    return address_of(spec, settings) or f"{spec.provider}'s API"


def answered(
    seat: Seat,
    messages: list[BaseMessage],
    schema: dict[str, Any] | None,
    patient: float,
    *,
    at_start: bool = False,
) -> Answer:
    """Raises Refused, at once or when `patient` seconds are over; RunStopped where the person stops the run meanwhile."""
    began, attempts = time.monotonic(), 0
    while True:
        attempts += 1
        try:
            message = _once(seat.spec, seat.settings, messages, schema)
            break
        except Exception as error:  # each provider has its own; one that nobody knows is raised again
            trouble = trouble_of(error, key_of(seat.spec, seat.settings))
            if trouble is None:
                raise
        wait = _wait(attempts, trouble)
        hopeless = at_start and (trouble.foreign or trouble.status is None)  # a wrong address, most likely
        if not trouble.passes or hopeless or time.monotonic() - began + wait > patient:
            raise Refused(trouble)
        seat.line.tell(ModelWaits(model=str(seat.spec), reason=trouble.reason, seconds=round(wait, 1)))
        _sleep(wait, seat.line)
    usage = _usage(seat, messages, message).model_copy(
        update={"attempts": attempts, "seconds": round(time.monotonic() - began, 2)}
    )
    usage = usage.model_copy(update={"cost": cost_of(usage, prices(seat.line.prices))})
    told = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    return Answer(text=_text(message)[:LONGEST_ANSWER], cut=told in {"length", "max_tokens", "MAX_TOKENS"}, usage=usage)


_plainer: dict[Spec, int] = {}  # how many ways of asking for JSON a model's server has refused


def _once(spec: Spec, settings: Settings, messages: list[BaseMessage], schema: dict[str, Any] | None) -> AIMessage:
    """Asks for JSON in the strictest way that the server takes: by its schema, as JSON, or by our words alone."""
    model = chat_model(spec, settings)
    ways = _ways(spec, schema)
    for number in range(min(_plainer.get(spec, 0), len(ways) - 1), len(ways)):
        try:
            return _invoked(model, messages, ways[number])
        except Exception as error:
            if number == len(ways) - 1 or getattr(error, "status_code", None) not in {400, 415, 422, 501}:
                raise
            _plainer[spec] = number + 1
    raise AssertionError("the last way returns or raises")


def _ways(spec: Spec, schema: dict[str, Any] | None) -> list[dict[str, Any]]:
    if schema is None or spec.provider != "openai":
        return [{}]
    strict = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    # In `extra_body`, because the client would parse by itself and lose text and usage of what it cannot parse.
    return [
        {"extra_body": {"response_format": strict}},
        {"extra_body": {"response_format": {"type": "json_object"}}},
        {},
    ]


def _invoked(model: BaseChatModel, messages: list[BaseMessage], way: dict[str, Any]) -> AIMessage:
    message = model.invoke(messages, **way)
    if not isinstance(message, AIMessage):
        raise ValueError(f"the answer is a {type(message).__name__}, expected a message of the model")
    return message


def _wait(attempts: int, trouble: Trouble) -> float:
    """Twice as long each time, spread so that many runs do not come back at once; never sooner than the server asks."""
    own = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempts - 1)) * random.uniform(0.8, 1.2)
    return max(own, trouble.retry_after or 0.0)


def _sleep(seconds: float, line: Line) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if line.stopping():
            raise RunStopped("a language model was being waited for")
        time.sleep(min(0.2, left))


def _text(message: AIMessage) -> str:
    """What it said; where it called a tool that nobody has offered, the arguments, which are what it wanted to say."""
    text = message.text
    calls = [json.dumps(call["args"]) for call in message.tool_calls]
    calls += [call["args"] or "" for call in message.invalid_tool_calls]
    return text if text.strip() or not calls else "\n".join(calls)


def _usage(seat: Seat, question: list[BaseMessage], answer: AIMessage) -> Usage:
    told: dict[str, Any] = dict(answer.usage_metadata or {})
    own = {"role": seat.role, "model": str(seat.spec)}
    if not told:
        return Usage.model_validate(
            own | {"tokens_in": tokens_in(question), "tokens_out": tokens_in([answer]), "estimated": True}
        )
    counted = {
        "tokens_in": told.get("input_tokens") or 0,
        "tokens_out": told.get("output_tokens") or 0,
        "tokens_cached": (told.get("input_token_details") or {}).get("cache_read") or 0,
        "tokens_reasoning": (told.get("output_token_details") or {}).get("reasoning") or 0,
    }
    return Usage.model_validate(own | counted)


def trouble_of(error: Exception, key: str) -> Trouble | None:
    """What a provider's exception means; None for a fault of ours."""
    status = _status(error)
    said = _said(error, key)
    if status is not None:
        out_of_money = any(word in said for word in ("insufficient_quota", "billing", "credit balance"))
        foreign = status in {404, 405, 501} and "model" not in said.lower()
        return Trouble(
            status=status,
            reason=f"it answers {status}: {said}",
            passes=status in PASSING and not out_of_money,
            retry_after=_retry_after(error),
            foreign=foreign,
        )
    name = type(error).__name__
    if "Timeout" in name:
        return Trouble(status=None, reason="no answer came in time", passes=True)
    if "Connection" in name or isinstance(error, httpx.TransportError):
        cause = error.__cause__ or error
        root = cause.__cause__ if cause is not error and cause.__cause__ else cause
        return Trouble(status=None, reason=f"the connection failed ({one_line(_said(root, key), 200)})", passes=True)
    if isinstance(error, ValueError | TypeError | KeyError | AttributeError) and _of_the_client(error):
        reason = f"what it sends is no chat completion ({one_line(said, 200)})"
        return Trouble(status=None, reason=reason, passes=True, foreign=True)
    return None


def _status(error: BaseException) -> int | None:
    """Of the HTTP answer, which some libraries wrap in exceptions of their own."""
    cause: BaseException | None = error
    for _ in range(4):
        for name in ("status_code", "code"):
            if isinstance(value := getattr(cause, name, None), int):
                return value
        cause = cause.__cause__ if cause else None
    return None


def _said(error: BaseException, key: str) -> str:
    """The provider's own words, without the key that some of them repeat."""
    body = getattr(error, "body", None)
    body = body if isinstance(body, dict) else {}
    body = body["error"] if isinstance(body.get("error"), dict) else body
    told, code = body.get("message"), body.get("code")
    text = f"{told} ({code})" if told and code else str(told or getattr(error, "message", None) or error)
    if key and key != NO_KEY:
        text = text.replace(key, "***")
    return one_line(text, 300)


def _retry_after(error: Exception) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", {})
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) / unit)
        except ValueError:
            continue
    return None


def _of_the_client(error: Exception) -> bool:
    """Raised while the provider's library read an answer, not by code of ours."""
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return not module.startswith("agents.")
