"""Before a run goes on: is everything that its scores depend on as it was? What is not is told, and needs `--force`."""

from dataclasses import dataclass

from checkpoints.home import home
from dataset.manifest import stamp
from nodes.data import Source, arrays_of, moved, source_of
from nodes.environment import decisive, differences, environment_of
from sandbox.device import find_device
from schema.dataset import DatasetProfile
from schema.errors import ChangedSince
from schema.run import Change, Environment, RunRow
from schema.settings import Settings
from schema.team import Hardware
from schema.text import one_line


@dataclass(frozen=True, slots=True)
class Ground:
    """What a run stands on from here. `machine` where it is another one than the run has planned with."""

    settings: Settings
    profile: DatasetProfile
    environment: Environment | None
    machine: Hardware | None
    notes: list[str]


def ground(
    row: RunRow, profile: DatasetProfile, settings: Settings, iteration: int, *, data: str | None, force: bool
) -> Ground:
    """`data`: where the images are now. Raises ChangedSince, DatasetError, and SettingsError where the device is gone."""
    if data is not None:
        settings = moved(row.name, settings, profile, data)
    profile = arrays_of(row.name, settings, profile)
    source = source_of(settings, profile) if data is None else Source(stamp(settings.dataset, settings.labels))
    device = find_device(settings.device, settings.gpus, settings.tier, home())
    machine = device.machine
    told = differences(row.environment, environment_of(machine, row.environment.dataset)) if row.environment else []
    lines = [*decisive(told), *source.changes]
    if lines and not force:
        raise ChangedSince(_refusal(row.name, [*lines, *device.notes], data_alone=not decisive(told)))
    notes = [*device.notes, *([source.note] if source.note else []), *(line for line in told if line not in lines)]
    if lines:
        notes += [f"changed since, as --force allows: {line}" for line in lines]
    return Ground(
        settings=settings.model_copy(update={"gpus": device.gpus}),
        profile=profile.model_copy(update={"stamp": source.stamp}),
        environment=_from_now_on(row.environment, machine, iteration, lines),
        machine=machine if decisive(told) else None,
        notes=notes,
    )


def _from_now_on(was: Environment | None, machine: Hardware, iteration: int, lines: list[str]) -> Environment | None:
    """Runs of before it was kept have none: what they began with is not known."""
    if was is None or not lines:
        return was
    before = was.model_copy(update={"changes": []})
    change = Change(iteration=iteration, lines=lines, before=before)
    return environment_of(machine, was.dataset).model_copy(update={"changes": [*was.changes, change]})


def _refusal(name: str, lines: list[str], *, data_alone: bool) -> str:
    told = "\n".join(f"  {one_line(line, 300)}" for line in lines)
    if data_alone:
        why = "The run would go on with the images as they were prepared, without these changes"
    else:
        why = "Scores of before and after may not be comparable"
    return (
        f"Since run {name!r} was last driven, something has changed. {why}. Put it back as it was, or go on all the"
        f" same: improve resume {name} --force. Changed:\n{told}"
    )
