"""The `improve` command: exit codes, and what is left to say when it ends early."""

import sys
import time

import improve.data_commands
import improve.driving
import improve.reading  # noqa: F401 - as the one above: its commands become the app's
from improve.app import app
from improve.terminal import say
from schema.errors import ImproveError, InputError, RunStopped, SettingRefused
from schema.settings import option_of


def main() -> None:
    """Exit codes: 0 done, 1 fault, 2 usage or input, 3 stopped and resumable. A person's mistake shows no traceback; a bug does."""
    from improve.doctor import shadowed

    try:
        if taken := shadowed():
            raise ImproveError(
                f"Other packages shadow IMPROVE's folders: {', '.join(taken)}. Install IMPROVE in an environment of its own."
            )
        app()
    except RunStopped as stop:
        say(str(stop), err=True)
        if stop.run:
            offer_to_end(stop.run)
        sys.exit(stop.exit_code)
    except SettingRefused as refused:
        given = f" {refused.given}" if refused.given else ""
        say(f"improve: {option_of(refused.field)}{given}: {refused.problem}", err=True)
        sys.exit(refused.exit_code)
    except ImproveError as error:
        say(f"improve: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        from checkpoints.trouble import trouble

        found = trouble(error)
        if found is None:
            raise
        say(f"improve: {found.text}", err=True)
        sys.exit(InputError.exit_code)


def offer_to_end(name: str) -> None:
    """A second Ctrl-C within three seconds ends the run's training, which would go on by itself. Resuming begins it anew."""
    from checkpoints.home import run_dir
    from sandbox import job

    states = {path.parent: job.status(path.parent).state for path in run_dir(name).glob("iterations/*/jobs/*/job.json")}
    running = [directory for directory, state in states.items() if state in {"running", "waiting"}]
    if not running or not sys.stdin.isatty():
        return
    goes_on = "goes on" if "running" in states.values() else "stays in line"
    say(f"A training {goes_on} in the background and is read on resume. Ctrl-C within 3 s ends it now.", err=True)
    try:
        time.sleep(3)
    except KeyboardInterrupt:
        for directory in running:
            job.stop(directory)


if __name__ == "__main__":
    main()
