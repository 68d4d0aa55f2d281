"""Everybody who looks at images has them decoded in a sandbox, and nothing of it stays."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

from nodes import decoding
from nodes.data import discovered, moved, prepared
from nodes.decoding import decoders_in, tier_to_look
from sandbox.hardware import hardware
from sandbox.isolation import tiers
from schema.errors import DatasetError, SettingsError
from schema.settings import Tier, make_settings

# What a decoder does that a file has taken over: it tries the way out, and says how far it came.
TAKEN_OVER = """
import json, os, socket, subprocess, sys
channel = socket.socket(fileno=3)
got = []
def attempt(what, way):
    try:
        way()
    except OSError:
        return
    got.append(what)
attempt("read a file of the person", lambda: open(SECRET).read())
attempt("read the images' folder", lambda: os.listdir(IMAGES))
attempt("wrote beside the images", lambda: open(IMAGES + "/written", "w"))
attempt("wrote to its directory", lambda: open("work/mine", "w"))
attempt("wrote to its home", lambda: open(os.environ["HOME"] + "/mine", "w"))
attempt("wrote to /tmp", lambda: open("/tmp/reader-was-here", "w"))
attempt("wrote to shared memory", lambda: open("/dev/shm/reader-was-here", "w"))
attempt("made a file in memory", lambda: os.memfd_create("x"))
attempt("started a program", lambda: subprocess.run(["/bin/true"]))
attempt("started a process", os.fork)
attempt("made a socket", socket.socket)
channel.sendall(b"ready")
def take(size):
    return channel.recv(size, socket.MSG_WAITALL)
import struct
while head := take(10):
    question, size = struct.unpack("<HQ", head)
    take(question), take(size)
    told = json.dumps({"problem": "was looked at elsewhere, which " + (", ".join(got) or "got nothing")}).encode()
    channel.sendall(struct.pack("<HQ", len(told), 0) + told)
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (8, 8), (i * 20, 0, 200 * (label == "b"))).save(tmp_path / "images" / label / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def taken_over(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("a key")
    package = tmp_path / "package"
    package.mkdir()
    known = f"SECRET, IMAGES = {str(tmp_path / 'secret')!r}, {str(images)!r}\n"
    (package / "program.py").write_text(known + TAKEN_OVER)
    monkeypatch.setattr(decoding, "PROGRAM", package / "program.py")


def needed(tier: Tier, folder: Path) -> Tier:
    if not (found := tiers.probe(tier, folder)).works:
        pytest.skip(f"{tier}: {found.text}")
    return tier


@pytest.mark.usefixtures("taken_over")
@pytest.mark.parametrize("tier", tiers.ISOLATED)
def test_whoever_takes_a_decoder_over_has_nothing(tier: Tier, images: Path, home: Path) -> None:
    settings = make_settings({"dataset": str(images), "tier": needed(tier, home)})
    with pytest.raises(DatasetError, match="was looked at elsewhere, which got nothing"):
        prepared(discovered(settings), settings, hardware("cpu"), tier, lambda *_: None)


@pytest.mark.usefixtures("taken_over")
def test_without_a_sandbox_it_is_a_process_of_its_own_and_no_more(images: Path) -> None:
    """So that the test above is known to see what gets out."""
    settings = make_settings({"dataset": str(images), "tier": "none"})
    with pytest.raises(DatasetError, match="elsewhere, which read a file of the person"):
        prepared(discovered(settings), settings, hardware("cpu"), "none", lambda *_: None)


def test_images_that_are_compared_are_decoded_there_too(
    images: Path, home: Path, request: pytest.FixtureRequest
) -> None:
    tier = needed("landlock", home)
    settings = make_settings({"dataset": str(images), "tier": tier})
    profile = prepared(discovered(settings), settings, hardware("cpu"), tier, lambda *_: None)
    assert profile.size("train")
    request.getfixturevalue("taken_over")
    with pytest.raises(DatasetError, match="was there -> is gone or cannot be read"):
        moved("run", settings, profile, str(images))


def test_nothing_stays_of_it(images: Path, home: Path) -> None:
    tier = tier_to_look("auto")
    settings = make_settings({"dataset": str(images), "tier": tier})
    prepared(discovered(settings), settings, hardware("cpu"), tier, lambda *_: None)
    assert not list(home.glob("reader-*"))


def test_what_a_kill_leaves_is_swept_by_the_next_and_no_living_one_is(home: Path) -> None:
    script = """
        import time
        from nodes.decoding import decoders_in
        with decoders_in("none"):
            print("ready", flush=True)
            time.sleep(1000)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    left = list(home.glob("reader-*"))
    with decoders_in("none"):
        assert len(list(home.glob("reader-*"))) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.1)
    with decoders_in("none"):
        assert len(list(home.glob("reader-*"))) == 1
        assert not left[0].exists()


def test_images_can_be_looked_at_where_no_sandbox_works_but_not_against_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = {tier: tiers.Finding(tier, False, "it does not start here") for tier in tiers.ISOLATED}
    monkeypatch.setattr(tiers, "probe", lambda tier, *_: nothing[tier])
    assert tier_to_look("auto") == "none"
    with pytest.raises(SettingsError, match="bwrap: it does not start here"):
        tier_to_look("bwrap")
