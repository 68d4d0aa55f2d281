"""What the nodes need from outside: built once, never in the state, never in a checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agents.team import Line, Team, make_team
from checkpoints.store import Store, open_existing_store
from sandbox import job
from schema.events import JobProgress
from schema.job import Access, JobResult, JobSpec
from schema.settings import Settings


class Jobs(Protocol):
    """Where generated code runs. A directory is a job's identity, so each call may come twice."""

    def warm(self, run_dir: Path, access: Access, /) -> None: ...

    def shutdown(self, run_dir: Path, /) -> None: ...

    def start(self, directory: Path, spec: JobSpec, /) -> None: ...

    def wait(
        self,
        directory: Path,
        /,
        on_progress: Callable[[JobProgress], None] | None,
        stop: Callable[[], bool] | None,
    ) -> JobResult: ...

    def stop(self, directory: Path, /) -> None: ...

    def go_on(self, directory: Path, /) -> None: ...

    def times_cut(self, directory: Path, /) -> int: ...

    def result(self, directory: Path, /) -> JobResult | None: ...

    def spec(self, directory: Path, /) -> JobSpec: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The first two are called inside nodes, so drawing the graph needs neither a home nor a key."""

    team: Callable[[Settings, Line], Team] = make_team
    store: Callable[[], Store] = open_existing_store
    jobs: Jobs = job
