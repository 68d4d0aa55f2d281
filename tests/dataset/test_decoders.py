"""A decoder may crash, loop, swell or lie: that costs its own image, and nobody else anything."""

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import pytest
from PIL import Image

from dataset import decoders
from dataset.decoders import CRASHED, NO_ANSWER, PROGRAM, Decoders, Shape, StartDecoder, Unreadable
from dataset.image_header import Header
from schema.errors import DatasetError, ImproveError

ROOT = PROGRAM.parent.parent
MEMORY = 4 * 2**30
SHAPE = Shape(1, 4, 4)
# The real program, with one decoder that does what a hole in it would let a file do.
FAULTY = """
import os, signal, sys, time
from dataset import decoding_process, image_header
real = decoding_process.file_header
def file_header(file):
    content = file.getvalue()
    if content.startswith(b"CRASH"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if content.startswith(b"LOOP"):
        while True:
            pass
    if content.startswith(b"SLEEP"):
        time.sleep(1000)
    if content.startswith(b"SHARE"):
        import mmap
        mmap.mmap(-1, int(sys.argv[1]) + decoding_process.MAPPED_BYTES)
    return real(file)
decoding_process.file_header = file_header
decoding_process.PROCESSOR_SECONDS = 1
decoding_process.main()
"""
# A program that a file has taken over: it says what `LIE` makes of (header, array).
LYING = """
import json, socket
from dataset.decoding_process import ANSWERED, ASKED, READY
channel = socket.socket(fileno=3)
channel.sendall(READY)
header = {"width": 4, "height": 4, "kind": "PNG/L", "grey": True, "frames": 1, "low": None, "high": None, "top": None}
header["content"] = "0" * 64
def take(size):
    return channel.recv(size, socket.MSG_WAITALL) if size else b""
while head := take(ASKED.size):
    question, size = ASKED.unpack(head)
    asked = json.loads(take(question))
    if take(size)[:3] == b"LIE":
        LIE
        continue
    told = json.dumps(header).encode()
    channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))
"""
LIES = {
    "not JSON": 'channel.sendall(ANSWERED.pack(3, 1024) + b"{{{" + bytes(1024))',
    "deep JSON": 'channel.sendall(ANSWERED.pack(4000, 1024) + b"[" * 4000 + bytes(1024))',
    "a long answer": "channel.sendall(ANSWERED.pack(60000, 1024) + bytes(61024))",
    "an array of another size": "channel.sendall(ANSWERED.pack(2, 10**15) + b'{}')",
    "no such field": """told = json.dumps(header | {"label": "cat"}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "a kind that is none": """told = json.dumps(header | {"kind": "\\x1b[31m"}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "a size of no image": """told = json.dumps(header | {"width": -1}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "numbers that are not finite": """told = json.dumps(header | {"top": float("nan")}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "a thumbnail that is not finite": """told = json.dumps(header).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + b"\\xff" * 1024)""",
    "one value of three": """told = json.dumps(header | {"low": 1.0}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "values out of order": """told = json.dumps(header | {"low": 3.0, "high": 2.0, "top": 4.0}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "values beyond those that mark missing data": """told = json.dumps(header | {"low": 0.0, "high": 1.0, "top": 1e300}).encode()
        channel.sendall(ANSWERED.pack(len(told), 1024) + told + bytes(1024))""",
    "a header without its thumbnail": """told = json.dumps(header).encode()
        channel.sendall(ANSWERED.pack(len(told), 0) + told)""",
}


def started(program: str, memory: int = MEMORY) -> StartDecoder:
    """Start a program without a sandbox: what confines it is not the question here."""

    def start(channel: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        begin = (
            f"import os, sys; os.dup2({channel}, 3); sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['{memory}']\n"
        )
        return subprocess.Popen([sys.executable, "-c", begin + program], pass_fds=[channel], stderr=log)

    return start


@contextmanager
def decoding(
    program: str = "from dataset.decoding_process import main; main()", memory: int = MEMORY
) -> Iterator[Decoders]:
    with Decoders(started(program, memory)) as found:
        yield found


def picture(path: Path, value: int = 7) -> Path:
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
    return path


def pictures(folder: Path, count: int) -> list[Path]:
    return [picture(folder / f"{i:03}.png", i) for i in range(count)]


def told(found: Header | Unreadable) -> str:
    return found.reason if isinstance(found, Unreadable) else "read"


def test_answers_come_in_order_from_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 3)
    files = pictures(tmp_path, 50)
    with decoding() as found:
        assert [int(image[0, 0, 0]) for image in found.pixels(files, SHAPE) if isinstance(image, np.ndarray)] == list(
            range(50)
        )
        assert [round(one.thumbnail.mean()) for one in found.headers(files) if isinstance(one, Header)] == list(
            range(50)
        )


def test_the_digest_is_that_of_the_file_whatever_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "HELD_BYTES", 1000)
    monkeypatch.setattr(decoders, "BLOCK", 700)
    files = pictures(tmp_path, 2)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)).save(files[1])
    with decoding() as found:
        digests = [one.digest for one in found.headers(files) if isinstance(one, Header)]
    assert digests == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_an_open_file_is_decoded_as_one_on_disk(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    with decoding() as found:
        opened, on_disk = found.pixels([BytesIO(file.read_bytes()), file], SHAPE)
    assert isinstance(opened, np.ndarray)
    assert (opened == on_disk).all()


def test_a_file_that_crashes_its_decoder_costs_no_other(tmp_path: Path) -> None:
    files = pictures(tmp_path, 8)
    for crashing in (files[0], files[5], files[7]):
        crashing.write_bytes(b"CRASH")
    with decoding(FAULTY) as found:
        reasons = [told(one) for one in found.headers(files)]
    assert reasons == [CRASHED, *["read"] * 4, CRASHED, "read", CRASHED]


def test_an_endless_loop_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "PROCESSOR_SECONDS", 1)
    files = pictures(tmp_path, 3)
    files[1].write_bytes(b"LOOP")
    with decoding(FAULTY) as found:
        assert [told(one) for one in found.headers(files)] == ["read", "takes more than 1 seconds to decode", "read"]


def test_a_decoder_that_only_waits_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "PROCESSOR_SECONDS", 1)
    monkeypatch.setattr(decoders, "ANSWER_SECONDS", 3.0)
    files = pictures(tmp_path, 3)
    files[1].write_bytes(b"SLEEP")
    with decoding(FAULTY) as found:
        assert [told(one) for one in found.headers(files)] == ["read", "takes more than 1 seconds to decode", "read"]


def test_an_image_that_does_not_fit_into_memory_costs_no_other(tmp_path: Path) -> None:
    files = pictures(tmp_path, 3)
    Image.new("L", (12_000, 12_000)).save(files[1])
    with decoding(memory=100 * 2**20) as found:
        reasons = [told(one) for one in found.headers(files)]
    assert reasons == ["read", "needs more memory to decode than there is", "read"]


def test_a_file_that_does_not_fit_into_memory_costs_no_other(tmp_path: Path) -> None:
    files = pictures(tmp_path, 3)
    with files[1].open("wb") as file:
        file.truncate(500 * 2**20)
    with decoding(memory=100 * 2**20) as found:
        reasons = [told(one) for one in found.headers(files)]
    assert reasons == ["read", "needs more memory to decode than there is", "read"]


def test_what_has_begun_with_a_decoder_ends_with_it(tmp_path: Path) -> None:
    """As bubblewrap does that is ended while it sets up: its child waits for it for ever."""
    note = tmp_path / "pid"
    program = textwrap.dedent(f"""
        import os, signal, time
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open({str(note)!r}, "w").write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists({str(note)!r}):
            time.sleep(0.01)
        from dataset.decoding_process import main
        main()
    """)
    begin = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['{MEMORY}']\n"

    def start(channel: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", f"import os; os.dup2({channel}, 3)\n{begin}{program}"]
        return subprocess.Popen(command, pass_fds=[channel], stderr=log, start_new_session=True)

    with Decoders(start) as found:
        assert [told(one) for one in found.headers(pictures(tmp_path, 1))] == ["read"]
        left = psutil.Process(int(note.read_text()))
    deadline = time.monotonic() + 30
    while left.is_running() and left.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_the_interpreter_itself_holds_does_not_count(tmp_path: Path) -> None:
    held = "import mmap; held = mmap.mmap(-1, 300 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); "
    with decoding(held + "from dataset.decoding_process import main; main()", memory=100 * 2**20) as found:
        assert [told(one) for one in found.headers(pictures(tmp_path, 3))] == ["read"] * 3


def test_memory_that_is_shared_counts_too(tmp_path: Path) -> None:
    files = pictures(tmp_path, 3)
    files[1].write_bytes(b"SHARE")
    with decoding(FAULTY) as found:
        assert [told(one) for one in found.headers(files)][::2] == ["read", "read"]
    with decoding(FAULTY) as found:
        assert "Cannot allocate memory" in told(next(found.headers([files[1]])))


def test_a_file_that_is_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    files = pictures(tmp_path, 2)
    with files[0].open("r+b") as file:
        file.truncate(10**13)
    with decoding() as found:
        assert [told(one) for one in found.headers(files)] == ["has 9313.2 GB, and an image may have 4", "read"]


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_answer_that_has_not_the_form_of_one_is_none(lie: str, tmp_path: Path) -> None:
    files = pictures(tmp_path, 3)
    files[1].write_bytes(b"LIE")
    with decoding(LYING.replace("LIE\n", f"{lie}\n")) as found:
        assert [told(one) for one in found.headers(files)] == ["read", NO_ANSWER, "read"]


def test_reasons_are_one_line_without_escapes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"LIE")
    lie = r"""told = json.dumps({"problem": "is\n\x1b[31m bad"}).encode()
        channel.sendall(ANSWERED.pack(len(told), 0) + told)"""
    with decoding(LYING.replace("LIE\n", f"{lie}\n")) as found:
        assert [told(one) for one in found.headers([tmp_path / "a.png"])] == ["is [31m bad"]


def test_a_source_that_ends_process_after_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "MOST_LOST", 2)
    files = pictures(tmp_path, 6)
    for file in files[1:5]:
        file.write_bytes(b"CRASH")
    with (
        decoding(FAULTY) as found,
        pytest.raises(DatasetError, match="2 images have ended the process that decodes them"),
    ):
        list(found.headers(files))


def test_a_process_that_does_not_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        decoding("raise SystemExit('no such library')") as found,
        pytest.raises(ImproveError, match=r"does not start: no such library\. Look: improve doctor"),
    ):
        list(found.headers(pictures(tmp_path, 1)))


def test_a_program_that_is_not_there_is_told_as_well(tmp_path: Path) -> None:
    def start(_channel: int, _log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(tmp_path / "gone")])

    with Decoders(start) as found, pytest.raises(ImproveError, match="does not start: .*No such file.*improve doctor"):
        list(found.headers(pictures(tmp_path, 1)))


def test_whoever_leaves_before_the_end_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 1)
    before = set(psutil.Process().children(recursive=True))
    with decoding(FAULTY) as found:
        files = pictures(tmp_path, 20)
        files[3].write_bytes(b"SLEEP")
        assert isinstance(next(found.headers(files)), Header)
        assert set(psutil.Process().children(recursive=True)) - before
    assert not set(psutil.Process().children(recursive=True)) - before


def test_an_interrupt_ends_all_at_once(tmp_path: Path) -> None:
    files = pictures(tmp_path, 4)
    files[1].write_bytes(b"SLEEP")
    script = f"""
        from pathlib import Path
        from tests.dataset.test_decoders import FAULTY, decoding
        with decoding(FAULTY) as found:
            for one in found.headers(sorted(Path({str(tmp_path)!r}).glob("*.png"))[:2] * 100):
                pass
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True
    )
    until = time.monotonic() + 60
    while not psutil.Process(process.pid).children() and time.monotonic() < until:
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, words = process.communicate(timeout=60)
    assert words.strip().endswith(b"KeyboardInterrupt")
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_no_pipe_or_device_is_ever_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with decoding() as found:
        reasons = [told(one) for one in found.headers(sorted(tmp_path.iterdir()))]
    assert reasons == ["is a folder, not a file", "is a named pipe, not a file", "is a device, not a file"]


def test_nothing_else_of_ours_decodes_images() -> None:
    """Pillow opens files in the process that is made for it, and in jobs; everybody else asks that process."""
    opening = {"decode", "opened_image", "file_header", "file_extent"}
    found: Callable[[ast.AST], bool] = lambda node: (  # noqa: E731
        (isinstance(node, ast.ImportFrom) and node.module in {"dataset.decode", "dataset.image_header"} and bool(opening & {name.name for name in node.names}))
        or (isinstance(node, ast.Attribute) and node.attr == "open" and isinstance(node.value, ast.Name) and node.value.id == "Image")
    )  # fmt: skip
    rooms = [
        ROOT / room for room in ("agents", "checkpoints", "dataset", "graph", "improve", "nodes", "sandbox", "schema")
    ]
    files = [file for room in rooms for file in room.rglob("*.py")]
    opens = {
        file.relative_to(ROOT).as_posix() for file in files if any(map(found, ast.walk(ast.parse(file.read_text()))))
    }
    assert opens == {"dataset/decode.py", "dataset/decoding_process.py", "dataset/image_header.py"}


def test_json_of_a_question_is_what_decode_takes(tmp_path: Path) -> None:
    deep = tmp_path / "a.png"
    Image.fromarray(np.arange(16, dtype=np.uint16).reshape(4, 4) * 100).save(deep)
    with decoding() as found:
        image = next(found.pixels([deep], Shape(3, 4, 4, (0.0, 1500.0))))
    assert isinstance(image, np.ndarray)
    assert json.dumps(image[0, 3].tolist()) == "[204, 221, 238, 255]"
