# ruff: noqa: TID251 - counts the batches of the real loaders
"""Equal work: every training is given as many images as were planned, and the time is only a guard."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sandbox.script.allowance import ENDLESS, UNHURRIED, Allowance
from sandbox.script.clock import Clock
from sandbox.script.info import Info, OutOfTime, Transforms
from sandbox.script.loaders import Loaders, make_loaders
from sandbox.script.toolbox import progress, warmup_cosine, warmup_linear


class Hands(Clock):
    """A clock whose hands are moved by the test."""

    def __init__(self, wall: float, alone: float | None = None) -> None:
        super().__init__()
        self.now = (wall, wall if alone is None else alone)

    def wall(self) -> float:
        return self.now[0]

    def seconds(self) -> float:
        return self.now[1]


def loaders(allowance: Allowance, images: int = 40) -> Loaders:
    labels = torch.arange(images) % 2
    info = Info(
        classes=["a", "b"], channels=1, height=4, width=4, mean=[0.5], std=[0.2], counts=[10, 10], seed=0,
        device=torch.device("cpu"), threads=1, seconds=1.0, epochs=3,
    )  # fmt: skip

    def plain(batch: torch.Tensor) -> torch.Tensor:
        return batch.float()

    pictures = torch.zeros(images, 1, 4, 4, dtype=torch.uint8)
    inner = torch.arange(images) % 4 == 3
    return make_loaders(pictures, labels, inner, Transforms(plain, plain), info, allowance=allowance, batch_size=10)


def passes(loader: Any, most: int) -> int:
    """Batches that it gave out in so many passes, until it was out of images."""
    count = 0
    try:
        for _ in range(most):
            for _ in loader:
                count += 1
    except OutOfTime:
        pass
    return count


def test_a_training_is_given_the_images_that_were_planned_and_no_more() -> None:
    allowance = Allowance(images=90)
    assert passes(loaders(allowance).train, most=5) == 9
    assert (allowance.seen, allowance.cut) == (90, False)


def test_all_training_loaders_draw_on_the_same_images() -> None:
    allowance = Allowance(images=90)
    ours = loaders(allowance)
    assert passes(ours.train, most=1) == 3
    assert passes(ours.everything, most=1) == 4
    assert passes(ours.with_batch_size(5).with_balanced_classes().train, most=9) == 4


def test_looking_is_free() -> None:
    allowance = Allowance(images=0)
    ours = loaders(allowance)
    assert passes(ours.validation, most=3) == 3
    with torch.no_grad():
        assert passes(ours.train, most=3) == 9


def test_a_training_that_is_out_of_time_is_cut() -> None:
    allowance = Allowance(seconds=10, clock=Hands(11.0))
    assert passes(loaders(allowance).train, most=1) == 0
    assert allowance.cut


def test_a_busy_machine_cuts_nothing_in_the_time_that_others_took() -> None:
    allowance = Allowance(seconds=10, clock=Hands(wall=39.0, alone=9.9))
    assert passes(loaders(allowance).train, most=1) == 3
    assert allowance.left() == pytest.approx(0.1)


def test_what_was_seen_and_used_goes_along_with_an_interrupted_training() -> None:
    before = Allowance(seconds=10, images=50)
    before.take(30)
    after = Allowance(seconds=10, images=50)
    after.load_state_dict(before.state_dict())
    with pytest.raises(OutOfTime):
        after.take(21)
    after.take(20)


@given(st.floats(0, 1))
def test_without_hurry_progress_is_the_share_of_the_steps(done: float) -> None:
    assert Allowance(seconds=100, clock=Hands(UNHURRIED * 100)).progress(done) == done
    assert Allowance().progress(done) == done


@given(done=st.floats(0, 1), used=st.floats(0, 100))
def test_progress_never_falls_behind_the_steps_and_ends_with_the_time(done: float, used: float) -> None:
    at = Allowance(seconds=100, clock=Hands(used)).progress(done)
    assert done <= at <= 1.0
    assert Allowance(seconds=100, clock=Hands(100.0)).progress(done) == 1.0


@given(done=st.floats(0, 1))
def test_a_training_that_keeps_to_its_plan_is_never_moved_by_the_clock(done: float) -> None:
    """It is planned for 0.85 of its seconds, and may take 1.5 times those."""
    used = 0.85 * done
    assert Allowance(seconds=1.5, clock=Hands(used)).progress(done) == done


@pytest.fixture
def hurried() -> Any:
    """A training whose clock the test moves."""
    clock = Hands(0.0)
    Allowance.present = Allowance(seconds=100.0, clock=clock)
    yield clock
    Allowance.present = None


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear])
def test_a_schedule_lands_with_the_time_though_most_steps_are_still_to_come(schedule: Any, hurried: Hands) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    course = schedule(optimizer, 1000)
    rates = []
    for step in range(300):  # of 1000, in all of its time
        hurried.now = (100.0 * step / 299, 100.0 * step / 299)
        optimizer.step()
        course.step()
        rates.append(course.get_last_lr()[0])
    assert max(rates) > 0.75
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    peak = rates.index(max(rates))
    assert all(later <= earlier + 1e-9 for earlier, later in zip(rates[peak:], rates[peak + 1 :], strict=False))


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear])
def test_a_schedule_in_time_is_that_of_its_steps(schedule: Any, hurried: Hands) -> None:
    def course(moved: bool) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        steps, rates = schedule(optimizer, 100), []
        for step in range(100):
            hurried.now = (0.5 * step, 0.5 * step) if moved else (0.0, 0.0)
            optimizer.step()
            steps.step()
            rates.append(steps.get_last_lr()[0])
        return rates

    assert course(moved=True) == course(moved=False)


def test_an_own_schedule_may_ask_where_no_training_runs() -> None:
    assert progress(0.3) == 0.3
    assert Allowance().left() == pytest.approx(ENDLESS, rel=1e-6)
