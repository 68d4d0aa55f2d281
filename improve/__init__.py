"""A folder of labelled images in, a trained classifier out: `improve.run("photos/")`."""

from improve.api import Result, load, resume, run

__all__ = ["Result", "load", "resume", "run"]
