"""Predicting with a winner is running a stranger's code once more: in the same sandbox, with nothing but the new images."""

import socket
from pathlib import Path

import pytest

from checkpoints.home import experiments_url, home
from checkpoints.store import open_store
from graph.run import run
from improve.api import load
from improve.predict import predict
from nodes.services import Services
from schema.errors import ImproveError
from schema.settings import Settings
from tests.scripted import ScriptedTeam, image_folder

HOSTILE = """def build_transforms(info):
    import socket
    got = []
    for path in {paths!r}:
        try:
            got.append(open(path, "rb").read(1) and path)
        except OSError:
            pass
    try:
        socket.create_connection(("127.0.0.1", {port}), 2)
        got.append("the network")
    except OSError:
        pass
    raise ValueError(f"RAN got={{got}}")
"""


@pytest.mark.slow
def test_a_hostile_winner_gets_nothing_when_it_predicts(tmp_path: Path) -> None:
    photos = image_folder(tmp_path / "photos")
    settings = Settings(dataset=str(photos), iterations=0, train_seconds=20, device="cpu")
    name = run(settings, name="winner", services=Services(team=lambda *_: ScriptedTeam([])))
    store = open_store()
    if store.run(name).sandbox == "none":
        pytest.skip("no sandbox works here: improve doctor says why")
    secret = tmp_path / "secret"
    secret.write_text("a key")
    labels = [str(path) for path in (home() / "datasets").rglob("*.npy")]
    paths = [str(secret), experiments_url().removeprefix("sqlite:///"), *labels, str(next(photos.rglob("*.png")))]
    assert len(labels) >= 4
    script = load(name).script
    with socket.create_server(("127.0.0.1", 0)) as server:
        hostile = HOSTILE.format(paths=paths, port=server.getsockname()[1])
        script.write_text(
            script.read_text().replace("def build_transforms(info):\n", hostile + "\n\ndef _before(info):\n")
        )
        with pytest.raises(ImproveError, match=r"RAN got=\[\]"):
            predict(name, [next(photos.rglob("*.png"))], store)
