"""Lines for a place to train: one clock, one order, and nobody has to clean up after the dead."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import line

HOLDER = """
import sys, time
from pathlib import Path
from sandbox import line
line.ABSTRACT, line.LOCKS = sys.argv[2] == "sockets", Path(sys.argv[3])
with line.turn([sys.argv[1]], 1, lambda: True):
    print("has it", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["sockets", "files"])
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to hold a name; this machine uses one of them."""
    if request.param == "sockets" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    monkeypatch.setattr(line, "ABSTRACT", request.param == "sockets")
    monkeypatch.setattr(line, "LOCKS", tmp_path / "line")
    return str(request.param)


@pytest.fixture
def place(kind: str) -> str:
    """A place that nobody else on this machine knows."""
    return f"test-{uuid.uuid4()}"


class Waiter(threading.Thread):
    """Stands in line until `leave` is set, then has the place for as long as `held` says."""

    def __init__(self, places: list[str], order: list["Waiter"], together: int = 1) -> None:
        super().__init__()
        self.leave, self.done, self.has_it, self.looks = (threading.Event() for _ in range(4))
        self.got: str | None = None
        self._places, self._order, self._together = places, order, together

    def run(self) -> None:
        with line.turn(self._places, self._together, self._goes_on) as got:
            self.got = got
            self._order.append(self)
            self.has_it.set()
            self.done.wait(60)

    def _goes_on(self) -> bool:
        self.looks.set()
        return not self.leave.is_set()


@pytest.fixture
def order() -> Iterator[list[Waiter]]:
    came: list[Waiter] = []
    yield came
    for waiter in came:
        waiter.done.set()
        waiter.join(10)


def stand(waiter: Waiter) -> Waiter:
    waiter.start()
    while not (waiter.looks.is_set() or waiter.has_it.is_set()):
        time.sleep(0.005)
    return waiter


def test_first_come_first_served(place: str, order: list[Waiter]) -> None:
    came = [stand(Waiter([place], order)) for _ in range(5)]
    for waiter in came:
        assert waiter.has_it.wait(10)
        waiter.done.set()
    assert order == came


def test_as_many_at_once_as_there_is_room_for(place: str, order: list[Waiter]) -> None:
    came = [stand(Waiter([place], order, together=2)) for _ in range(3)]
    assert [waiter.has_it.is_set() for waiter in came] == [True, True, False]
    came[1].done.set()
    assert came[2].has_it.wait(10)


def test_the_first_free_of_several_places_and_no_line_for_one_holds_up_another(place: str, order: list[Waiter]) -> None:
    one, two = f"{place}-one", f"{place}-two"
    came = [stand(Waiter(places, order)) for places in ([one, two], [one], [one, two])]
    assert [waiter.got for waiter in came] == [one, None, two]
    late = stand(Waiter([one, two], order))
    came[0].done.set()
    assert came[1].has_it.wait(10)  # it has waited longer than the late one
    assert not late.has_it.is_set()
    came[2].done.set()
    assert late.has_it.wait(10)
    assert late.got == two


def test_who_gives_up_holds_up_nobody(place: str, order: list[Waiter]) -> None:
    first, second, third = (stand(Waiter([place], order)) for _ in range(3))
    second.leave.set()
    assert second.has_it.wait(10)
    assert second.got is None
    first.done.set()
    assert third.has_it.wait(10)
    assert third.got == place


def test_without_a_place_to_wait_for_nothing_is_waited_for() -> None:
    with line.turn([], 1, lambda: True) as got:
        assert got is None


def test_a_killed_holder_and_a_killed_waiter_are_gone_at_once(
    place: str, kind: str, tmp_path: Path, order: list[Waiter]
) -> None:
    command = [sys.executable, "-c", HOLDER, place, kind, str(tmp_path / "line")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"has it\n"
    waiter = subprocess.Popen(command, stdout=subprocess.PIPE)
    while len(line._numbers(place)) < 1:
        time.sleep(0.01)
    third = stand(Waiter([place], order))
    for process in (waiter, holder):
        process.kill()
        process.communicate()
    assert third.has_it.wait(10)
    assert third.got == place
