"""A folder of labelled images in, a trained classifier out: `improve.run("photos/")`."""

from improve.api import Result, fork, inspect, load, resume, run, stream, stream_resumed

__all__ = ["Result", "fork", "inspect", "load", "resume", "run", "stream", "stream_resumed"]
