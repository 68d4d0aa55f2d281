"""What a job prints: read as fast as it comes, and of it the first part and the last kept."""

import contextlib
import os
from pathlib import Path

LOG_HEAD = 2 * 2**20
LOG_TAIL = 64 * 1024


class Log:
    """A pipe for the job to write into, and the file where the supervisor keeps what is worth keeping."""

    def __init__(self, path: Path, cap: int) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.write_end, True)
        self.received = 0
        self._file = path.open("wb")
        self._tail = b""
        self._cap = cap

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.read_end, 2**16):
                self._take(block)
                if self.received > self._cap:
                    return

    def _take(self, block: bytes) -> None:
        room = max(0, LOG_HEAD - self.received)
        self.received += len(block)
        self._file.write(block[:room])
        self._file.flush()
        self._tail = (self._tail + block[room:])[-LOG_TAIL:]

    def close(self) -> None:
        self.drain()
        if self._tail:
            self._file.write(b"\n... %d bytes in all, the last follow ...\n" % self.received + self._tail)
        self._file.close()
        os.close(self.read_end)
        os.close(self.write_end)
