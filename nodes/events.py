"""Telling what goes on: each event is a record, streamed as a LangGraph custom event."""

from langgraph.config import get_stream_writer

from schema.events import Event


def tell(event: Event) -> None:
    get_stream_writer()(event.model_dump(mode="json"))
