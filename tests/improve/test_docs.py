"""The pages name what is there."""

import re
from pathlib import Path

import pytest
import typer.main

from improve.cli import app
from tests.scripted import image_folder

ROOT = Path(__file__).resolve().parents[2]


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    commands = typer.main.get_group(app).commands
    for name, command in commands.items():
        assert name in page
        for parameter in command.params if name == "run" else []:
            assert any(option in page for option in parameter.opts) or parameter.param_type_name == "argument", (
                parameter.name
            )


def test_the_rooms_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for room in ("agents", "checkpoints", "dataset", "graph", "improve", "nodes", "sandbox", "schema"):
        assert f"`{room}/`" in text
        assert (ROOT / room / "__init__.py").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_python_page_runs_with_less_time_for_each_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(
        tmp_path / "photos", per_class=100, light=3
    )  # so faint that a first pipeline errs, and another can be better
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPROVE_HOME", str(tmp_path / "home"))
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    page = re.sub(r'(train_seconds"?[=:] ?)60', r"\g<1>5", page)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert len(capsys.readouterr().out.splitlines()) >= 7
