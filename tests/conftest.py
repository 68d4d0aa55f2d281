"""No test reaches the user's home, a hub, or a key, or waits for the user's trainings."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["IMPROVE_LINE"] = f"test-{os.getpid()}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $IMPROVE_HOME for every test."""
    folder = tmp_path / "improve-home"
    monkeypatch.setenv("IMPROVE_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    for name in ("IMPROVE_WEIGHTS", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return folder
