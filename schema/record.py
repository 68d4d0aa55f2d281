"""The one base of every record: frozen, closed to unknown fields, and plain JSON at the borders."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A value. `model_dump(mode="json")` on the way out of a node, `model_validate` on the way in."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
