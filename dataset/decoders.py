"""Processes that decode images, from outside: files are read and hashed here, and sent as bytes; headers and
pixels come back.

A decoder is a large program in C that is fed what strangers made. So it runs in a process of its own, which
whoever calls us starts confined (`StartDecoder`), and which is given no file, only bytes. Its answers have a
form that is checked; what they say is believed of its own images only, and the digest of a file is ours.
"""

import hashlib
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, BinaryIO, Self

import numpy as np
from pydantic import Field

from dataset.decode import NO_DATA, open_regular
from dataset.decoding_process import ANSWERED, ASKED, BLOCK, PROCESSOR_SECONDS, READY
from dataset.image_header import SIDE, Header
from schema.errors import DatasetError, ImproveError
from schema.record import Record
from schema.text import one_line

# Start a decoding process whose descriptor 3 is this channel, and whose standard error is this file.
StartDecoder = Callable[[int, IO[bytes]], subprocess.Popen[bytes]]

PROGRAM = Path(__file__).with_name("decoding_process.py")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
CHUNK = 32  # files that a process is given at a time, at most
CHUNK_BYTES = 16 * 2**20  # of results; with two chunks to a process under way this bounds the memory
HEADER_BYTES = 2048
LARGEST_FILE = 4 * 2**30  # bytes; one image that is decoded has less than half of it uncompressed
HELD_BYTES = 8 * 2**20  # of a file, read while the one before is decoded
LONGEST_ANSWER = 4096  # bytes
START_SECONDS = 120.0  # a cold disk, a busy machine
ANSWER_SECONDS = 1800.0  # on a machine that is so busy that PROCESSOR_SECONDS take that long
END_SECONDS = 10.0
MOST_LOST = 50  # processes that the images of one source may take along, before it is refused


@dataclass(frozen=True, slots=True)
class Unreadable:
    reason: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What an image is decoded to; `value_range` as `find_value_range` gives it."""

    channels: int
    height: int
    width: int
    value_range: tuple[float, float] | None = None

    @property
    def bytes(self) -> int:
        return self.channels * self.height * self.width


Pixels = Annotated[int, Field(ge=1, le=2**31)]


class _Measured(Record):
    """The form that a decoding process's word has to have: Header, but for what is not JSON."""

    width: Pixels
    height: Pixels
    kind: str = Field(pattern=r"^[A-Za-z0-9]{1,16}/[A-Za-z0-9;]{1,16}$")
    grey: bool
    frames: int = Field(ge=1, le=2**31)
    low: float | None
    high: float | None
    top: float | None
    content: str = Field(pattern=r"^[0-9a-f]{64}$")


THUMBNAIL = struct.calcsize("f") * SIDE * SIDE


Answer = Header | np.ndarray | Unreadable
CRASHED = "cannot be decoded: its decoder crashed, or needed more memory than there is"
NO_ANSWER = "cannot be decoded: its decoder gave an answer that is none"


class _Lost(Exception):
    """The process is gone, or is not one to talk with any more. Says what that is to the image."""


@dataclass(slots=True)
class _Content:
    """A file that is about to be sent: its first bytes, and the digest of these."""

    stream: BinaryIO
    size: int
    head: bytes
    digest: "hashlib._Hash"


@dataclass(frozen=True, slots=True)
class _Process:
    process: subprocess.Popen[bytes]
    channel: socket.socket
    log: IO[bytes]

    def end(self) -> None:
        """It ends by itself once nobody speaks with it; one that does not is ended, with its group.

        bubblewrap that is ended while it still sets up leaves a child, which would wait for it for ever.
        """
        self.channel.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_SECONDS)
        with suppress(ProcessLookupError):  # it may lead no group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.log.close()


class Decoders:
    """Decoding processes: as many as there are cores, started as they are needed, and ended by `close`.

    Whoever leaves an iterator before its end closes it, or closes us.
    """

    def __init__(self, start: StartDecoder) -> None:
        self._start = start
        self._threads = ThreadPoolExecutor(CORES, "decoder")  # one to a process
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all: list[_Process] = []
        self._lost = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def headers(self, files: Iterable[Path | BinaryIO]) -> Iterator[Header | Unreadable]:
        """Measure every file, in order.

        Raises DatasetError if too many of them take their process along, ImproveError if no process starts.
        """
        for found in self._answers(files, None):
            if isinstance(found, np.ndarray):
                raise TypeError("pixels were not asked for")
            yield found

    def pixels(self, files: Iterable[Path | BinaryIO], shape: Shape) -> Iterator[np.ndarray | Unreadable]:
        """uint8 [channels, height, width] of every file, in order. Raises as `headers`."""
        for found in self._answers(files, shape):
            if isinstance(found, Header):
                raise TypeError("a header was not asked for")
            yield found

    def close(self) -> None:
        """End all processes, also in the middle of an image."""
        self._closed = True
        for one in self._all:
            _hang_up(one.channel)
        self._threads.shutdown(cancel_futures=True)
        for one in self._all:
            one.end()
        self._all.clear()

    def _answers(self, files: Iterable[Path | BinaryIO], shape: Shape | None) -> Iterator[Answer]:
        size = max(1, min(CHUNK, CHUNK_BYTES // (shape.bytes if shape else HEADER_BYTES)))
        left = iter(files)
        chunks = iter(lambda: list(islice(left, size)), [])
        waiting: deque[Future[list[Answer]]] = deque()

        def submit(most: int) -> None:
            waiting.extend(self._threads.submit(self._answer_all, some, shape) for some in islice(chunks, most))

        try:
            submit(2 * CORES)
            while waiting:
                found = waiting.popleft().result()
                submit(1)
                yield from found
        finally:
            for one in waiting:
                one.cancel()

    def _answer_all(self, files: list[Path | BinaryIO], shape: Shape | None) -> list[Answer]:
        """One process's share. While it decodes a file the next one is read and hashed."""
        found: list[Answer] = []
        process, digest = self._taken(), ""  # of the file that it decodes now
        following: _Content | Unreadable | None = None
        try:
            for file in [*files, None]:
                following = None if file is None else _opened(file)
                if digest:
                    try:
                        found.append(_receive(process.channel, shape, digest))
                    except _Lost as lost:
                        process, unreadable = self._replaced(process, lost)
                        found.append(unreadable)
                    digest = ""
                if isinstance(following, Unreadable):
                    found.append(following)
                elif following is not None:
                    try:
                        digest = _send(process.channel, shape, following)
                    except _Lost as lost:
                        process, unreadable = self._replaced(process, lost)
                        found.append(unreadable)
        except BaseException:
            if isinstance(following, _Content):
                following.stream.close()
            _hang_up(process.channel)
            raise
        self._idle.put(process)
        return found

    def _taken(self) -> _Process:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 - `end` closes it
        try:
            with theirs:
                process = _Process(self._start(theirs.fileno(), log), ours, log)
        except OSError as error:
            ours.close()
            log.close()
            raise ImproveError(
                f"The process that decodes images does not start: {error}. Look: improve doctor"
            ) from error
        self._all.append(process)
        if self._closed:
            _hang_up(ours)
        try:
            said = _received(ours, len(READY), time.monotonic() + START_SECONDS)
        except _Lost:
            said = bytearray()
        if said != READY:
            raise ImproveError(
                f"The process that decodes images does not start: {_last_words(log)}. Look: improve doctor"
            )
        return process

    def _replaced(self, process: _Process, lost: _Lost) -> tuple[_Process, Unreadable]:
        """Give up a process, and the image that it was lost with."""
        self._lost += 1
        if self._lost > MOST_LOST and not self._closed:
            raise DatasetError(
                f"{MOST_LOST} images have ended the process that decodes them, or have held it up for minutes: the "
                f"source is damaged, or made to do harm. The last one {lost}. Take such files out, and try again."
            )
        self._all.remove(process)
        process.end()
        return self._taken(), Unreadable(str(lost))


def reason_of(error: Exception) -> str:
    """Say why an image cannot be used, in words that follow its name."""
    if isinstance(error, FileNotFoundError):
        return "is a link to nothing" if os.path.islink(error.filename or "") else "does not exist"  # noqa: PTH114
    if isinstance(error, OSError):
        return f"cannot be opened: {error.strerror or error}"
    return str(error).split("\n")[0]


def _opened(file: Path | BinaryIO) -> _Content | Unreadable:
    """Open a file and read its beginning."""
    try:
        stream = open_regular(file) if isinstance(file, Path) else file
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if size > LARGEST_FILE:
            stream.close()
            return Unreadable(f"has {size / 2**30:.1f} GB, and an image may have {LARGEST_FILE / 2**30:.0f}")
        head = stream.read(min(size, HELD_BYTES))
    except Exception as error:
        return Unreadable(reason_of(error))
    return _Content(stream, size, head, hashlib.sha256(head))


def _send(channel: socket.socket, shape: Shape | None, content: _Content) -> str:
    """Hand over a file, and return its SHA-256."""
    question = json.dumps(None if shape is None else asdict(shape)).encode()
    left, block = content.size, memoryview(content.head)
    until = time.monotonic() + ANSWER_SECONDS
    try:
        channel.settimeout(ANSWER_SECONDS)
        channel.sendall(ASKED.pack(len(question), content.size) + question)
        while left:
            if not block:
                raise _Lost("became shorter while it was read")
            channel.settimeout(max(0.001, until - time.monotonic()))
            channel.sendall(block)
            left -= len(block)
            block = memoryview(content.stream.read(min(left, BLOCK)))
            content.digest.update(block)
    except OSError as error:
        raise _Lost(f"could not be read or handed over: {error.strerror or error}") from error
    finally:
        content.stream.close()
    return content.digest.hexdigest()


def _receive(channel: socket.socket, shape: Shape | None, digest: str) -> Answer:
    """Take an answer whose form is right, and nothing else."""
    began = time.monotonic()
    try:
        until = began + ANSWER_SECONDS
        told, array = ANSWERED.unpack(_received(channel, ANSWERED.size, until))
        if told > LONGEST_ANSWER or array not in {0, THUMBNAIL if shape is None else shape.bytes}:
            raise _Lost(NO_ANSWER)
        answer = json.loads(_received(channel, told, until))
        data = np.frombuffer(_received(channel, array, until), np.float32 if shape is None else np.uint8)
    except (ValueError, RecursionError):
        raise _Lost(NO_ANSWER) from None
    except _Lost:
        if time.monotonic() - began < PROCESSOR_SECONDS:
            raise
        raise _Lost(f"takes more than {PROCESSOR_SECONDS} seconds to decode") from None
    if not array:
        if not (isinstance(answer, dict) and isinstance(answer.get("problem"), str)):
            raise _Lost(NO_ANSWER)
        return Unreadable(one_line(answer["problem"], 300))
    if shape is not None:
        return data.reshape(shape.channels, shape.height, shape.width)
    try:
        measured = _Measured.model_validate(answer, strict=True)
    except ValueError:
        raise _Lost(NO_ANSWER) from None
    values = [value for value in (measured.low, measured.high, measured.top) if value is not None]
    if len(values) not in {0, 3} or values != sorted(values) or not (np.abs([*values, *data]) <= NO_DATA).all():
        raise _Lost(NO_ANSWER)
    return Header(**measured.model_dump(), digest=digest, thumbnail=data)


def _received(channel: socket.socket, size: int, until: float) -> bytearray:
    found = bytearray(size)
    left = memoryview(found)
    while left:
        channel.settimeout(max(0.001, until - time.monotonic()))
        try:
            got = channel.recv_into(left)
        except OSError as error:
            raise _Lost(CRASHED) from error
        if not got:
            raise _Lost(CRASHED)
        left = left[got:]
    return found


def _hang_up(channel: socket.socket) -> None:
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().split("\n")
    return one_line(lines[-1], 300) or "it ended without a word"
