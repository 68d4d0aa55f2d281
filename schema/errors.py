"""What can go wrong for a person, as a tree. Expected failures of generated code are not here: they are data (`schema.pipeline.Fault`).

ImproveError                  exit code 1: a fault of ours or of the machine
├── InputError                exit code 2: the person can mend it by typing something else
│   ├── DatasetError          the images or labels cannot be used as they are
│   ├── SettingsError         an option has a value that we do not know
│   │   └── SettingRefused    a field of Settings, which the command and Python spell in different ways
│   ├── RunNameTaken          a run of that name exists
│   ├── UnknownRun            no run of that name exists
│   ├── RunBusy               another process drives that run
│   ├── ChangedSince          what a run's scores depend on is not as it was
│   ├── NothingToResume       the run is finished
│   ├── HomeError             $IMPROVE_HOME cannot be written, or is full
│       └── HomeLost          it, or the run's folder, was deleted while the run was going on
│   └── DatabaseRefused       a data base cannot be opened, or is damaged
│       └── CheckpointsDamaged  they are made again from the experiment store
└── RunStopped                exit code 3: stopped on purpose, and resumable
    ├── JobsUnavailable       no job can be run or read (any more): its sandbox, its supervisor, its result
    ├── ModelsUnavailable     a language model does not answer (any more), or refuses to
    ├── ReviewWaits           a person is asked before a training, and nobody is there to answer
    ├── DatabaseAway          a data base is locked, or does not answer any more
    └── BudgetSpent           the tokens or the money for language models are used up

Each message says what was found, what was expected, and what to do next. Names of files and texts of others in
it are made harmless here, once for all: whoever prints it need not know of them. A list stands at its end, indented
by two spaces.
"""

from schema.text import paragraph


class ImproveError(RuntimeError):
    """Shown to the person without a traceback."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(paragraph(message))


class InputError(ImproveError):
    exit_code = 2


class DatasetError(InputError):
    pass


class SettingsError(InputError):
    pass


class SettingRefused(SettingsError):
    """Reads as Python spells it, `iterations=-1: expected ...`; the command puts its option there instead."""

    def __init__(self, field: str, given: str, problem: str) -> None:
        super().__init__(f"{field}{f'={given}' if given else ''}: {problem}")
        self.field, self.given, self.problem = field, given, problem


class RunNameTaken(InputError):
    pass


class UnknownRun(InputError):
    pass


class RunBusy(InputError):
    pass


class ChangedSince(InputError):
    pass


class NothingToResume(InputError):
    pass


class HomeError(InputError):
    pass


class DatabaseRefused(InputError):
    pass


class CheckpointsDamaged(DatabaseRefused):
    pass


class HomeLost(HomeError):
    pass


class RunStopped(ImproveError):
    exit_code = 3

    def __init__(self, message: str, run: str | None = None) -> None:
        super().__init__(message)
        self.run = run  # None where it never began


class JobsUnavailable(RunStopped):
    pass


class ModelsUnavailable(RunStopped):
    pass


class ReviewWaits(RunStopped):
    pass


class DatabaseAway(RunStopped):
    pass


class BudgetSpent(RunStopped):
    pass
