"""From `openai:gpt-5.4-mini` to a chat model: who serves it, with which key, at which address. Keys stay here."""

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from agents.llm.keys import OPENAI, Variable, find_variable, home_file
from schema.errors import SettingsError
from schema.settings import Role, Settings

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "google": "GOOGLE_API_KEY"}
EXTRAS = {"anthropic": "langchain-anthropic", "google": "langchain-google-genai"}
CONNECT_SECONDS = 10.0
NO_KEY = "none"  # what a local server is told that asks for none


class Spec(NamedTuple):
    provider: str
    name: str

    def __str__(self) -> str:
        return f"{self.provider}:{self.name}"


def spec_of(settings: Settings, role: Role) -> Spec:
    """Raises SettingsError for what is not PROVIDER:NAME."""
    text = settings.model_for(role)
    provider, colon, name = text.partition(":")
    if provider in KEYS and name.strip():
        return Spec(provider, name.strip())
    option = f"--{option_of(role)}" if role in settings.role_models else "--model"
    known = ", ".join(f"{each}:NAME" for each in KEYS)
    hint = f" Did you mean openai:{text}?" if not colon and text else ""
    raise SettingsError(
        f"{option} {text!r} is not known. Expected playbook, or a language model: {known} (openai: also for any server "
        f"that speaks its protocol, with --base-url).{hint}"
    )


def option_of(role: Role) -> str:
    """The command line's name for the model of one role."""
    return f"{role}-engineer-model" if role in {"data", "model", "training"} else f"{role}-model"


def roles_by_spec(settings: Settings) -> dict[Spec, Role]:
    """Each model once, with the first role that it has."""
    found: dict[Spec, Role] = {}
    for role in get_args(Role):
        found.setdefault(spec_of(settings, role), role)
    return found


def settled_address(settings: Settings) -> str | None:
    """Where the run's requests go, once and for all: as asked for, or where a variable leads; None where no model needs one."""
    if all(spec.provider != "openai" for spec in roles_by_spec(settings)):
        return settings.base_url
    named = _address_variable()
    return settings.base_url or (named.value if named else OPENAI)


def _address_variable() -> Variable | None:
    return find_variable("OPENAI_BASE_URL", "OPENAI_API_BASE")


def address_of(spec: Spec, settings: Settings) -> str | None:
    """None: where the provider's own client sends them."""
    return (settings.base_url or OPENAI) if spec.provider == "openai" else None


def key_of(spec: Spec, settings: Settings) -> str:
    """Raises SettingsError where there is none, and one is needed; and for one that an address from a file would get although it comes from
    elsewhere."""
    name = KEYS[spec.provider]
    address = _address_from_file(settings) if spec.provider == "openai" else None
    key = find_variable(name, beside=address)
    if key and address and key.file != address.file:
        elsewhere = key.file or "the environment"
        raise SettingsError(
            f"The address {settings.base_url} comes from {address.file}, and {name} from {elsewhere}: a key does not follow an address from a file. "
            f"Write the key into that file too, or take the address out of it and type --base-url {settings.base_url}"
        )
    if key:
        return key.value
    if spec.provider == "openai" and address_of(spec, settings) != OPENAI:
        return NO_KEY
    local = " A server of your own needs none: say where it is with --base-url." if spec.provider == "openai" else ""
    raise SettingsError(
        f"{spec} needs a key, and {name} is not set. export {name}=..., write it into {home_file()}, or name a file that has it: --env-file FILE."
        f"{local}{_unread_file()}"
    )


def _address_from_file(settings: Settings) -> Variable | None:
    """The address of the run's server, if it stands in a file."""
    named = _address_variable()
    return named if named and named.file and named.value.rstrip("/") == settings.base_url else None


def _unread_file() -> str:
    here = Path(".env")
    return " (.env here is not read by itself: a folder of images may bring one.)" if here.is_file() else ""


def chat_model(spec: Spec, settings: Settings) -> BaseChatModel:
    """Raises SettingsError where its key or its package is missing."""
    seconds = float(os.environ.get("IMPROVE_MODEL_TIMEOUT", "600"))
    return _made(spec, address_of(spec, settings), key_of(spec, settings), seconds)


@cache
def _made(spec: Spec, address: str | None, key: str, seconds: float) -> BaseChatModel:
    """No retries of its own: waiting is ours, so that it is seen. No temperature: reasoning models refuse one. Nothing streamed: usage would be lost."""
    if spec.provider == "openai":
        return ChatOpenAI(
            model=spec.name,
            api_key=SecretStr(key),
            base_url=address,
            timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            max_retries=0,
            use_responses_api=False,  # most other servers have the older protocol alone
            disable_streaming=True,
        )
    return _from_extra(spec, key, seconds)


def _from_extra(spec: Spec, key: str, seconds: float) -> BaseChatModel:
    try:
        if spec.provider == "anthropic":
            from langchain_anthropic import ChatAnthropic  # noqa: PLC0415 - an extra

            model: BaseChatModel = ChatAnthropic(
                model_name=spec.name,
                api_key=SecretStr(key),
                timeout=seconds,
                max_retries=0,
                max_tokens_to_sample=16_000,
                stop=None,
                disable_streaming=True,
            )
        else:
            from langchain_google_genai import ChatGoogleGenerativeAI  # noqa: PLC0415 - an extra

            model = ChatGoogleGenerativeAI(
                model=spec.name,
                google_api_key=SecretStr(key),
                temperature=None,
                timeout=seconds,
                max_retries=0,
                disable_streaming=True,
            )
    except ImportError:
        raise SettingsError(
            f"{spec} needs {EXTRAS[spec.provider]}, which is not installed. .venv/bin/uv pip install --python .venv/bin/python '.[{spec.provider}]'"
        ) from None
    return model
