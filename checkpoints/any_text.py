"""A model may put a NUL character or half a surrogate pair into a text. SQLite keeps them; PostgreSQL refuses the row, so they are left out there."""

import json
import re
from typing import Any

from psycopg import Connection
from psycopg.types.json import set_json_dumps
from psycopg.types.string import StrDumper

NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def accept_any_text(connection: Connection[Any]) -> None:
    connection.adapters.register_dumper(str, _AnyText)
    set_json_dumps(_json, connection)


class _AnyText(StrDumper):
    def dump(self, obj: str) -> Any:
        return super().dump(_whole(obj).replace("\0", ""))


def _json(value: Any) -> str:
    return NUL.sub(r"\1", _whole(json.dumps(value, ensure_ascii=False)))


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
