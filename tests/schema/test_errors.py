"""What is raised for a person is harmless to whoever prints it, in a terminal or a notebook."""

import pickle

from hypothesis import given

from schema.errors import DatasetError, ImproveError, RunStopped, SettingRefused
from schema.text import one_line
from tests.schema.test_text import each_hostile, names


@each_hostile
@given(names)
def test_a_message_has_no_line_of_its_own_from_a_name(name: str) -> None:
    for error in (
        DatasetError(f"set/{name}: no images found."),
        RunStopped(f"{name} is away.", run="r"),
        SettingRefused("x", name, name),
    ):
        assert all(line.startswith("  ") for line in str(error).splitlines()[1:])
        assert one_line(str(error), 10**6) == " ".join(str(error).split())


def test_a_list_of_ours_keeps_its_lines() -> None:
    assert str(ImproveError("Changed:\n  a: 1 -> 2\n  b: 3 -> 4")) == "Changed:\n  a: 1 -> 2\n  b: 3 -> 4"


def test_a_message_stays_as_it_is_when_it_is_raised_again_or_sent_elsewhere() -> None:
    error = DatasetError("a  b\n  c \\ud800")
    assert str(DatasetError(f"{error}")) == str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
