"""Predicting with a winner is running a stranger's code once more: in the same sandbox, with nothing but the new images."""

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import improve
from checkpoints.home import experiments_url, home
from checkpoints.store import open_store
from graph.run import run
from improve.api import load
from improve.predict import predict, winner_of
from nodes.services import Services
from schema.errors import ImproveError, InputError
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
            list(predict(winner_of(name, store), [next(photos.rglob("*.png"))]))


@pytest.mark.slow
def test_the_model_says_the_same_of_a_path_a_picture_and_an_array_in_one_batch_or_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = image_folder(tmp_path / "photos")
    settings = Settings(dataset=str(photos), iterations=0, train_seconds=20, device="cpu")
    run(settings, name="winner", services=Services(team=lambda *_: ScriptedTeam([])))
    file, other = photos / "left" / "0.png", photos / "right" / "0.png"
    model = improve.load("winner").model()
    found = model.predict([str(file), Image.open(file), np.asarray(Image.open(file)), other])
    assert found.classes == ("left", "right")
    assert found.probabilities.shape == (4, 2)
    assert np.array_equal(found.probabilities[0], found.probabilities[1])
    assert np.array_equal(found.probabilities[0], found.probabilities[2])
    assert found.labels == tuple(found.classes[best] for best in found.probabilities.argmax(axis=1))
    assert model.predict([]).probabilities.shape == (0, 2)
    monkeypatch.setattr("improve.predict.BATCH_BYTES", 1)  # a job for each image
    again = model.predict([file, other])
    assert np.allclose(again.probabilities, found.probabilities[[0, 3]], atol=1e-6)
    (tmp_path / "broken.png").write_bytes(file.read_bytes()[:80])
    told = list(predict(winner_of("winner", open_store()), [tmp_path / "broken.png", file, tmp_path / "absent.png"]))
    assert [bool(one.problem) for one in told] == [True, False, True]
    for images, message in (
        ([file, tmp_path / "absent.png"], r"Image 1 \(.*absent.png\): does not exist"),
        ([np.zeros((3, 12, 12), np.uint8)], r"Image 0 is uint8 \[3, 12, 12\].*transpose\(1, 2, 0\)"),
        ([np.zeros((12, 12), np.float32)], r"Image 0 is float32.*255"),
        ([7], "Image 0 is int"),
    ):
        with pytest.raises(InputError, match=message):
            model.predict(images)
