"""Decoding processes for tests that ask what a file says, and not what may happen on the way."""

import atexit
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from dataset.decoders import PROGRAM, Decoders
from sandbox.confined import confined


@cache
def shared_decoders() -> Decoders:
    """The same ones for all tests; they end with the last of them."""
    stack = ExitStack()
    atexit.register(stack.close)
    home = Path(stack.enter_context(TemporaryDirectory(prefix="improve-decoders-")))
    return stack.enter_context(Decoders(stack.enter_context(confined("none", home, PROGRAM))))
