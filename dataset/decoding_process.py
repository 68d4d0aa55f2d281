"""The process in which images are decoded: it gets the bytes of files, and gives back what it measured, or pixels.

It is started confined (sandbox/confined.py), with its channel on descriptor 3, and has no file of the source
open: a hole in a decoder opens nothing but this process. Nothing that it says is believed beyond its form
(dataset/decoders.py).
"""

import json
import os
import socket
import struct
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from dataset.decode import decode
from dataset.image_header import file_header

with suppress(ImportError):  # not everywhere
    import resource

CHANNEL = 3
READY = b"ready"
ASKED = struct.Struct("<HQ")  # bytes of the question, bytes of the file
ANSWERED = struct.Struct("<HQ")  # bytes of the answer, bytes of the array after it
PROCESSOR_SECONDS = 120  # for one image; the largest that is decoded needs about a tenth
LONGEST_REASON = 300  # characters
BLOCK = 2**20
MAPPED_BYTES = 4 * 2**30


def main() -> None:
    channel = socket.socket(fileno=CHANNEL)
    with suppress(NameError, OSError, ValueError):
        memory = int(sys.argv[1]) + _held_at_start()
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        # What is shared counts here alone; libraries and stacks of threads are mapped, too.
        resource.setrlimit(resource.RLIMIT_AS, (memory + MAPPED_BYTES, memory + MAPPED_BYTES))
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # from here on nobody reads its words
    channel.sendall(READY)
    while head := _received(channel, ASKED.size):
        question, size = ASKED.unpack(head)
        asked = json.loads(_received(channel, question))
        answer, array = _answer(channel, asked, size)
        told = json.dumps(answer).encode()
        channel.sendall(ANSWERED.pack(len(told), len(array)) + told)
        channel.sendall(array)


def _held_at_start() -> int:
    """Return the bytes that the interpreter and its libraries hold: the limit is one for images, and these differ
    from machine to machine (threads of a linear algebra library, for one)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


def _answer(channel: socket.socket, asked: dict[str, Any] | None, size: int) -> tuple[dict[str, Any], bytes]:
    """Answer with a measured header (nothing asked) or with pixels of a shape; or say why there is none."""
    try:
        file = _content(channel, size)
        with suppress(NameError, OSError, ValueError):  # an endless loop in a decoder ends with this process
            used = resource.getrusage(resource.RUSAGE_SELF)
            most = int(used.ru_utime + used.ru_stime) + 1 + PROCESSOR_SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        if asked is not None:
            return {}, decode(file, **asked).tobytes()
        found = file_header(file)
        told = {name: getattr(found, name) for name in found.__slots__ if name not in {"thumbnail", "digest"}}
        return told, found.thumbnail.tobytes()
    except MemoryError:
        return {"problem": "needs more memory to decode than there is"}, b""
    except Exception as error:
        text = str(error) if isinstance(error, ValueError) else f"cannot be decoded: {error}"
        return {"problem": text.split("\n")[0][:LONGEST_REASON]}, b""


def _content(channel: socket.socket, size: int) -> BytesIO:
    """Receive a file. One that does not fit into memory is received all the same, and thrown away."""
    file = BytesIO()
    try:
        if size:
            file.seek(size - 1)
            file.write(b"\0")
        with file.getbuffer() as room:
            _fill(channel, room)
    except MemoryError:
        left = size
        while left:
            left -= len(_received(channel, min(left, BLOCK)))
        raise
    file.seek(0)
    return file


def _received(channel: socket.socket, size: int) -> bytes:
    """Receive so many bytes; none once the other side has gone."""
    found = bytearray(size)
    return bytes(found) if _fill(channel, memoryview(found)) else b""


def _fill(channel: socket.socket, view: memoryview) -> bool:
    while view:
        got = channel.recv_into(view)
        if not got:
            return False
        view = view[got:]
    return True


if __name__ == "__main__":
    main()
