"""What can be wrong with models, keys, prices and budgets is found before a run begins: each is a sentence that says what to type."""

from io import BytesIO

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_openai import ChatOpenAI
from PIL import Image

from agents.llm.calls import Refused, Seat, answered, place_of
from agents.llm.prices import cost_of, prices
from agents.llm.prompts import picture_message
from agents.llm.providers import KEYS, Spec, chat_model, key_of, roles_by_spec
from agents.team import Line
from schema.errors import SettingsError
from schema.settings import Role, Settings
from schema.team import Usage
from schema.text import one_line

LEAST_TOKENS = 10_000  # of a first pipeline: a design and three engineers who keep it
GREETING = "Answer with the word: ready"
PATIENT = 60.0  # seconds: a person waits for the word that it goes


def check(settings: Settings, line: Line) -> None:
    """Raises SettingsError."""
    known, models = prices(line.prices), roles_by_spec(settings)
    for spec in models:
        key_of(spec, settings)
        if settings.max_cost is not None and cost_of(Usage(role="analyst", model=str(spec)), known) is None:
            raise SettingsError(
                f"--max-cost: the price of {spec} is not known. Write it into {line.prices}, in dollars for a million tokens:\n"
                f'  ["{spec}"]\n  input = 1.00\n  output = 4.00'
            )
    if settings.max_tokens is not None and settings.max_tokens < LEAST_TOKENS:
        raise SettingsError(
            f"--max-tokens {settings.max_tokens}: a first pipeline takes more than {LEAST_TOKENS:,} tokens, and each iteration about as many. "
            "Give it 100000 or more, or leave it out."
        )
    for spec, role in models.items():
        _greet(spec, role, settings, line)
    if settings.show_images:
        _show(settings, line)


def _show(settings: Settings, line: Line) -> None:
    """Raises SettingsError if the analyst's model takes no picture."""
    seat = Seat("analyst", settings, line)
    grey = BytesIO()
    Image.new("RGB", (64, 64), "grey").save(grey, "PNG")
    try:
        answer = answered(seat, [picture_message(GREETING, grey.getvalue())], None, PATIENT, at_start=True)
    except Refused as refused:
        raise SettingsError(
            f"--show-images: {seat.spec} at {place_of(seat.spec, settings)} takes no pictures: {refused.trouble.reason}. "
            "Leave --show-images out, or give the analyst a model that sees: --analyst-model openai:NAME"
        ) from None
    line.record(answer.usage)


def _greet(spec: Spec, role: Role, settings: Settings, line: Line) -> None:
    question: list[BaseMessage] = [HumanMessage(GREETING)]
    try:
        answer = answered(Seat(role, settings, line), question, None, PATIENT, at_start=True)
    except Refused as refused:
        raise SettingsError(_reason(spec, settings, refused)) from None
    line.record(answer.usage)


def _reason(spec: Spec, settings: Settings, refused: Refused) -> str:
    trouble, where = refused.trouble, place_of(spec, settings)
    form = (
        "Expected the address of an OpenAI-compatible server, with its /v1: e.g. --base-url http://localhost:11434/v1"
    )
    if trouble.status in {401, 403}:
        return f"{where} refuses the key for {spec} ({trouble.reason}). Look at {KEYS[spec.provider]} where it is set: in the environment, in --env-file or in .env of $IMPROVE_HOME."
    if trouble.foreign:
        return f"{where} answers, but not as an OpenAI-compatible server: {trouble.reason}. {form}"
    if trouble.status == 404:
        return f"{where} has no model {spec.name!r}: {trouble.reason}.{_models(spec, settings)}"
    if trouble.status is None:
        return f"Nothing answers at {where}: {trouble.reason}. Is the server running, and is this its address? {form}"
    return f"{spec} at {where} cannot be used: {trouble.reason}."


def _models(spec: Spec, settings: Settings) -> str:
    """What the server says that it has, where it says so."""
    model = chat_model(spec, settings)
    if not isinstance(model, ChatOpenAI):
        return ""
    try:
        names = sorted(one_line(found.id, 60) for found in model.root_client.models.list(timeout=10))
    except Exception:
        return ""
    shown = ", ".join(names[:15]) + (f" and {len(names) - 15} more" if len(names) > 15 else "")
    return f" It has: {shown}." if names else ""
