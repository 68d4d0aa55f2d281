"""Pretrained weights: found in the source without running it, fetched by us, checked, and shown to the job that asked."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from sandbox.contract import parsed
from sandbox.pretrained import broker, fetch
from sandbox.pretrained.disk import in_cache
from sandbox.pretrained.names import asked_for
from schema.errors import RunStopped
from schema.events import WeightsFetched
from schema.pipeline import Fault
from schema.pretrained import Pretrained
from tests.sandbox.hub import COMMIT, Hub, serving

NAME = "test_resnet"
FULL = "test_resnet.r160_in1k"
FILE = f"timm/{FULL}/model.safetensors"
PLACE = f"hub/models--timm--{FULL}/snapshots/{COMMIT}/model.safetensors"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("timm.create_model('resnet18', pretrained=True)", ["timm:resnet18"]),
        ("timm.create_model(model_name='resnet18', pretrained=True)", ["timm:resnet18"]),
        ("create_model('resnet18.a1_in1k', True)", ["timm:resnet18.a1_in1k"]),
        ("timm.create_model('resnet18', pretrained=not info.restoring)", ["timm:resnet18"]),
        ("timm.create_model('resnet18', pretrained=False)", []),
        ("timm.create_model('resnet18')", []),
        ("timm.create_model('resnet18', pretrained=True, pretrained_cfg_overlay=dict(file=f))", []),
        ("timm.create_model('hf_hub:timm/resnet18.a1_in1k', pretrained=True)", ["hub:timm/resnet18.a1_in1k"]),
        ("name = 'resnet18'\ntimm.create_model(name, pretrained=True)", ["timm:resnet18"]),
        ("name, size = 'resnet18', 3\ntimm.create_model(name, pretrained=True)", ["timm:resnet18"]),
        ("name = 'a'\nname = 'b'\ntimm.create_model(name, pretrained=True)", []),
        ("for name in ('a', 'b'):\n    timm.create_model(name, pretrained=True)", []),
        ("name = 'a'\ndef f():\n    name = 'b'\n    timm.create_model(name, pretrained=True)", ["timm:b"]),
        ("name = 'a'\ndef f():\n    timm.create_model(name, pretrained=True)", ["timm:a"]),
        ("name = 'a'\ndef f(name):\n    timm.create_model(name, pretrained=True)", []),
        ("name = 'a'\nclass C:\n    def f(self, other):\n        timm.create_model(name, pretrained=True)", ["timm:a"]),
        ("def f(name='a'):\n    timm.create_model(name, pretrained=True)", []),
        ("timm.create_model(f'resnet{depth}', pretrained=True)", []),
        ("load_pretrained(model, info, 'resnet18')", ["timm:resnet18 as a file"]),
        ("load_pretrained(model, info, name='resnet18')", ["timm:resnet18 as a file"]),
        ("load_file(info.pretrained('resnet18'))", ["timm:resnet18 as a file"]),
        ("torchvision.models.resnet18(weights='DEFAULT')", ["torchvision:resnet18:DEFAULT"]),
        ("resnet18(weights='IMAGENET1K_V1')", ["torchvision:resnet18:IMAGENET1K_V1"]),
        ("models.get_model('resnet18', weights='IMAGENET1K_V1')", ["torchvision:resnet18:IMAGENET1K_V1"]),
        ("models.get_model('resnet18', weights='ResNet18_Weights.DEFAULT')", ["torchvision:ResNet18_Weights.DEFAULT"]),
        ("w = models.ResNet18_Weights.DEFAULT\nresnet18(weights=w)", ["torchvision:ResNet18_Weights.DEFAULT"]),
        ("ResNet18_Weights.DEFAULT.transforms()", []),
        ("models.resnet18(pretrained=True)", ["torchvision:resnet18:IMAGENET1K_V1"]),
        ("models.resnet18(weights=None)", []),
        ("cohen_kappa_score(a, b, weights='quadratic')", []),
        ("torch.hub.load_state_dict_from_url('https://x/y-12345678.pth')", ["url:https://x/y-12345678.pth"]),
    ],
)
def test_what_a_component_asks_for(code: str, found: list[str]) -> None:
    tree = parsed("model", code)
    assert not isinstance(tree, Fault)
    assert [asked.what + " as a file" * asked.file for asked in asked_for(tree)] == found


@pytest.fixture(scope="module")
def weights() -> bytes:
    """As large as a real small model's: several network packets."""
    return save({"conv1.weight": np.random.default_rng(0).normal(size=(700, 350))})


@pytest.fixture
def hub(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({FILE: weights})) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield running


def downloads(hub: Hub) -> int:
    return sum("GET" in request for request in hub.requests)


def left_in_cache(folder: Path) -> list[str]:
    """Files with content; locks and folders are the hub's client's business."""
    return [
        file.name
        for file in (folder / "hub-cache").rglob("*")
        if file.is_file() and ".locks" not in file.parts and file.suffix != ".TAG" and file.name != "main"
    ]


def test_weights_are_fetched_into_the_ordinary_cache_once(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    events: list[WeightsFetched] = []
    got, failed = broker.fetch([f"timm:{NAME}"], Pretrained(), events.append)
    assert not failed
    assert Path(got.files[NAME]).read_bytes() == weights
    assert got.files[NAME] == got.files[FULL] == got.cached[PLACE]
    assert got.licences == {FULL: "apache-2.0"}
    assert Path(got.files[NAME]).is_relative_to(tmp_path / "hub-cache")
    assert {event.total for event in events} == {len(weights)}
    again, failed = broker.fetch([f"hub:timm/{FULL}"], Pretrained())
    assert not failed
    assert again.files == got.files
    assert downloads(hub) == 1
    assert in_cache().files == {FULL: got.files[FULL]}
    assert in_cache().cached == got.cached


def test_a_file_of_the_persons_own_goes_before_the_hub(hub: Hub, tmp_path: Path) -> None:
    own = str(tmp_path / f"{NAME}.safetensors")
    got, failed = broker.fetch([f"timm:{NAME}"], Pretrained(files={NAME: own}))
    assert not failed
    assert set(got.files.values()) == set(got.cached.values()) == {own}
    assert not hub.requests


def test_a_download_that_breaks_off_goes_on_where_it_was(hub: Hub, weights: bytes) -> None:
    hub.cut = 2
    got, failed = broker.fetch([f"timm:{NAME}"], Pretrained())
    assert not failed
    assert Path(got.files[NAME]).read_bytes() == weights
    assert downloads(hub) == 3


def test_what_the_hub_refuses_or_garbles_is_told_in_words(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    """Each of another model, so that one process looks them all up."""
    trouble = {
        "test_vit.r160_in1k": (401, "RepoNotFound", "only to members"),
        "test_vit2.r160_in1k": (403, "", "only to members"),
        "test_convnext.r160_in1k": (403, "GatedRepo", "asks for a licence to be accepted"),
        "test_convnext2.r160_in1k": (404, "EntryNotFound", "no such file"),
        "test_efficientnet.r160_in1k": (418, "", "did not give it"),
        FULL: (0, "", "has the hash"),
    }
    hub.refusals = {f"timm/{name}": (status, word) for name, (status, word, _) in trouble.items() if status}
    hub.etags = {f"timm/{FULL}": hashlib.sha256(b"something else").hexdigest()}
    got, failed = broker.fetch([f"timm:{name}" for name in trouble], Pretrained())
    assert got == Pretrained()
    assert [name for name, (_, _, said) in trouble.items() if said not in failed[f"timm:{name}"]] == []
    assert left_in_cache(tmp_path) == []


def test_without_a_network_it_is_said_and_not_tried(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, failed = broker.fetch([f"timm:{NAME}", "torchvision:resnet18:DEFAULT"], Pretrained())
    assert all("nothing is downloaded" in why for why in failed.values())
    assert len(failed) == 2
    assert not hub.requests


@pytest.mark.slow
def test_a_download_without_headway_is_given_up(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(broker, "PATIENCE", 2.0)
    hub.slow = True
    _, failed = broker.fetch([f"timm:{NAME}"], Pretrained())
    assert "given up" in failed[f"timm:{NAME}"]
    assert left_in_cache(tmp_path) == []


@pytest.mark.slow
def test_a_download_can_be_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.slow = True
    events: list[WeightsFetched] = []
    with pytest.raises(RunStopped):
        broker.fetch([f"timm:{NAME}"], Pretrained(), events.append, stop=lambda: len(events) > 2)
    assert left_in_cache(tmp_path) == []


ODD_NAMES = {
    "timm:resnet1888": "Names close to it that have some: resnet18",
    "timm:test_resnet.secret": "no pretrained weights of the name",
    "hub:attacker/c2VjcmV0": "not a repository that the installed timm lists",
    "hub:../../etc/passwd": "not a repository that the installed timm lists",
    "url:HUB/steal?what=secret": "not an address that the installed timm or torchvision lists",
    "url:file:///etc/passwd": "not an address that the installed timm or torchvision lists",
    "torchvision:resnet18:NOBODY": "Names close to it: ResNet18_Weights",
    "torchvision:os.system": "torchvision has no weights",
    "no kind at all": "not an address",
    "timm:" + "x" * 100_000: "no pretrained weights of the name",
}


def test_a_name_only_chooses_among_what_the_libraries_list(hub: Hub) -> None:
    """Otherwise a job could carry out what it read, in the name of what it wants."""
    asked = {name.replace("HUB", hub.address): said for name, said in ODD_NAMES.items()}
    got, failed = broker.fetch(list(asked), Pretrained())
    assert [name for name, said in asked.items() if said not in failed[name]] == []
    assert max(map(len, failed.values())) < 700
    assert got == Pretrained()
    assert not hub.requests


@pytest.mark.parametrize("honest", [True, False])
def test_addresses_are_checked_by_the_hash_in_their_name(
    honest: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    content = b"weights of torchvision" * 1000
    digest = hashlib.sha256(content).hexdigest()[:8] if honest else "01234567"
    with serving(Hub({f"models/net-{digest}.pth": content})) as hub:
        url = f"{hub.address}/models/resolve/main/net-{digest}.pth"
        if honest:
            found = fetch._of_torch(url)
            assert Path(found["cached"][f"torch/hub/checkpoints/net-{digest}.pth"]).read_bytes() == content
        else:
            with pytest.raises(fetch.Unavailable, match="thrown away"):
                fetch._of_torch(url)
            assert not list((tmp_path / "torch-home").rglob("net*"))


def test_a_download_leaves_room_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(fetch.Unavailable, match="MB free, of which 1074 MB are kept"):
        fetch._has_room(tmp_path / "not" / "there", 2**60, NAME)


RESTRICTED = ("timm:convnextv2_atto.fcmae_ft_in1k", "torchvision:RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1")


def test_weights_whose_licence_forbids_some_use_are_not_fetched_unless_asked_for(hub: Hub) -> None:
    got, failed = broker.fetch(list(RESTRICTED), Pretrained())
    assert not got.files
    assert all("cc-by-nc-4.0" in why and "--weights-licence any" in why for why in failed.values())
    assert not hub.requests


@pytest.mark.slow
def test_whoever_says_so_gets_them(hub: Hub) -> None:
    _, failed = broker.fetch([RESTRICTED[0]], Pretrained(any_licence=True))
    assert "no such file" in failed[RESTRICTED[0]]  # this hub does not have it, and was asked


def test_without_leave_nothing_is_downloaded(hub: Hub) -> None:
    got, failed = broker.fetch([f"timm:{NAME}"], Pretrained(download=False))
    assert not got.files
    assert "--no-download" in failed[f"timm:{NAME}"]
    assert downloads(hub) == 0
