"""A model may put a NUL character into a text. SQLite keeps it; PostgreSQL refuses the row, so it is left out there."""

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
        return super().dump(obj.replace("\0", ""))


def _json(value: Any) -> str:
    return NUL.sub(r"\1", json.dumps(value))
