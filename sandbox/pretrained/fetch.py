# ruff: noqa: TID251, T201 - a process of its own that imports timm and torchvision, and talks on standard output
"""Looks pretrained weights up by name in the installed timm and torchvision, and fetches what is not on disk: `python -m sandbox.pretrained.fetch`.

It has the network and runs no generated code. What is asked for is untrusted text: it only ever chooses among the weights that the two
libraries list, so that no name can lead to another place or carry anything out. Orders come as JSON on standard input, answers go as lines of JSON.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

SAFE = "model.safetensors"
HASH = re.compile(r"-([0-9a-f]{8,})\.")
LONGEST_NAME = 300
ROOM_LEFT = 2**30  # bytes that a download leaves free
SILENCE = 30.0  # seconds without a byte
# Licences that allow every use, at most with the author's name beside it. torchvision's weights come under its own, but for those of SWAG.
PERMISSIVE = {"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0", "unlicense"}
TORCHVISION, NON_COMMERCIAL = "bsd-3-clause", "cc-by-nc-4.0"
TELL = 0.5  # seconds between two words on how far it is


class Unavailable(Exception):
    """Why these weights cannot be had, for the engineer who asked for them."""


def main() -> None:
    orders = json.load(sys.stdin)
    socket.setdefaulttimeout(SILENCE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the libraries then remove what they have half written
    for asked in orders["asked"]:
        try:
            told = _look_up(asked[:LONGEST_NAME], orders["files"], any_licence=orders["any_licence"])
        except Unavailable as reason:
            told = {"failed": str(reason)}
        _say(asked=asked, **told)


def _look_up(asked: str, files: dict[str, str], *, any_licence: bool) -> dict[str, Any]:
    kind, _, name = asked.partition(":")
    if kind == "hub":
        name = _timm_name_of(name)
    if kind in {"timm", "hub"}:
        return _of_timm(name, files, any_licence=any_licence)
    licence = NON_COMMERCIAL if "SWAG" in name else TORCHVISION
    _check_licence(name, licence, any_licence=any_licence)
    return _of_torch(_torchvision_url(name) if kind == "torchvision" else _listed_url(name)) | {"licence": licence}


def licence_of(config: Any) -> str:
    """As timm's table has it, in small letters; `unknown` if it does not say."""
    return str(getattr(config, "license", None) or "unknown").lower()


def _check_licence(name: str, licence: str, *, any_licence: bool) -> None:
    if licence not in PERMISSIVE and not any_licence:
        raise Unavailable(
            f"the licence of {name!r} is {licence}, which does not allow every use; --weights-licence any takes it if yours is allowed"
        )


# timm's, on the hub


def _of_timm(name: str, files: dict[str, str], *, any_licence: bool) -> dict[str, Any]:
    import timm  # noqa: PLC0415

    config = _configuration(name)
    if config is None:
        close = ", ".join(get_close_matches(name, timm.list_pretrained(), n=5)) or "none"
        raise Unavailable(
            f"timm has no pretrained weights of the name {name!r}. Names close to it that have some: {close}"
        )
    architecture = str(config.architecture)
    full = f"{architecture}.{config.tag}" if config.tag else architecture
    default = timm.get_pretrained_cfg(architecture)
    names = [full, *([architecture] if default is not None and default.tag == config.tag else []), name]
    own = next((files[one] for one in names if one in files), None)
    licence = licence_of(config)
    if own is None:  # what the person has is theirs to use
        _check_licence(full, licence, any_licence=any_licence)
    if not config.hf_hub_id:
        if own:
            return {"name": full, "files": dict.fromkeys(names, own), "cached": {}, "licence": licence}
        return _of_torch(str(config.url)) | {"licence": licence}
    file = str(config.hf_hub_filename or SAFE)
    if own:  # the person's own file is what this name means in this run
        cached, path = {_place(config.hf_hub_id, "own", file): own}, own
    else:
        cached, path = _from_hub(config.hf_hub_id, file, full)
    return {
        "name": full,
        "files": dict.fromkeys(names, path) if path.endswith(".safetensors") or file == SAFE else {},
        "cached": cached,
        "licence": licence,
    }


def _configuration(name: str) -> Any:
    """timm's record of these weights, None where there are none of this name."""
    import timm  # noqa: PLC0415

    with contextlib.suppress(Exception):  # it raises one kind or another for a tag or a model that it does not know
        config = timm.get_pretrained_cfg(name)
        if config is not None and config.has_weights:
            return config
    return None


def _timm_name_of(repository: str) -> str:
    repository = repository.partition("@")[0]
    name = next((name for name, config in _listed() if config.hf_hub_id == repository), None)
    if name is None:
        raise Unavailable(
            f"{repository!r} is not a repository that the installed timm lists; ask for the weights by their timm name"
        )
    return name


@cache
def _listed() -> list[tuple[str, Any]]:
    """Every name that has weights, with timm's record of them."""
    import timm  # noqa: PLC0415

    return [(name, timm.get_pretrained_cfg(name)) for name in timm.list_pretrained()]


def _from_hub(repository: str, file: str, shown: str) -> tuple[dict[str, str], str]:
    """Where a job's libraries look -> file, and the file. As it is in the ordinary cache, else fetched into it and checked."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache  # noqa: PLC0415

    found = try_to_load_from_cache(repository, file)
    if not isinstance(found, str):
        with _in_words(repository):
            told = get_hf_file_metadata(hf_hub_url(repository, file))
            _has_room(Path(constants.HF_HUB_CACHE), told.size or 0, shown)
            blobs = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "blobs"
            with _telling(shown, blobs, told.size or 0):
                found = hf_hub_download(repository, file)
        _verify(Path(found), str(told.etag))
    pointer = Path(found)
    return {_place(repository, pointer.parent.name, file): str(pointer.resolve())}, str(pointer.resolve())


def _place(repository: str, commit: str, file: str) -> str:
    return f"hub/models--{repository.replace('/', '--')}/snapshots/{commit}/{file}"


def _verify(pointer: Path, etag: str) -> None:
    """The hub names large files by their SHA-256 and small ones by git's SHA-1; its own client checks sizes only. A wrong file is removed."""
    data = pointer.resolve()
    hashed = (
        hashlib.sha256()
        if len(etag) == 64
        else hashlib.sha1(f"blob {data.stat().st_size}\0".encode(), usedforsecurity=False)
    )
    with data.open("rb") as file:
        while block := file.read(2**20):
            hashed.update(block)
    if hashed.hexdigest() != etag:
        data.unlink()
        pointer.unlink(missing_ok=True)
        raise Unavailable(
            f"what was downloaded has the hash {hashed.hexdigest()[:12]}..., and the hub says {etag[:12]}...; it was thrown away"
        )


@contextlib.contextmanager
def _in_words(repository: str) -> Iterator[None]:
    from huggingface_hub import constants, errors  # noqa: PLC0415

    hub = constants.ENDPOINT
    try:
        yield
    except Unavailable:
        raise
    except errors.OfflineModeIsEnabled:
        raise Unavailable("nothing is downloaded (--no-download, or HF_HUB_OFFLINE is set)") from None
    except errors.GatedRepoError:
        raise Unavailable(
            f"{hub}/{repository} asks for a licence to be accepted there, and for a token in HF_TOKEN"
        ) from None
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError):
        raise Unavailable(f"{hub} has no such file in {repository}, or shows it only to members (HF_TOKEN)") from None
    except Exception as error:  # what its HTTP library raises differs from version to version
        if getattr(getattr(error, "response", None), "status_code", 0) in {401, 403}:
            raise Unavailable(f"{hub} shows {repository} only to members (HF_TOKEN)") from None
        said = str(error).strip().split("\n")[0]
        raise Unavailable(f"{hub} did not give it: {type(error).__name__}: {said}"[:300]) from None


# By address, checked by the hash in the file's name


def _torchvision_url(asked: str) -> str:
    """`ENUM.MEMBER` or `MODEL:WEIGHTS`."""
    from torchvision import models  # noqa: PLC0415

    model, _, weights = asked.rpartition(":")
    try:
        if model:
            enum = models.get_model_weights(model)
            return str(enum[weights].value.url)
        return str(models.get_weight(weights).value.url)
    except (KeyError, ValueError, AttributeError):
        pass
    known = [f"{enum.__name__}.{member}" for enum in _enums() for member in enum.__members__]
    close = ", ".join(get_close_matches(weights if not model else f"{model}_Weights.{weights}", known, n=5)) or "none"
    raise Unavailable(f"torchvision has no weights {asked!r}. Names close to it: {close}")


@cache
def _enums() -> list[Any]:
    from torchvision import models  # noqa: PLC0415

    return [models.get_model_weights(name) for name in models.list_models()]


def _listed_url(url: str) -> str:
    listed = {member.value.url for enum in _enums() for member in enum} | {config.url for _, config in _listed()}
    if not url or url not in listed:
        raise Unavailable(
            "it is not an address that the installed timm or torchvision lists; ask for weights by their names"
        )
    return url


def _of_torch(url: str) -> dict[str, Any]:
    import torch.hub  # noqa: PLC0415

    name = url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    wanted = HASH.search(name)
    if not (folder / name).exists():
        if wanted is None:
            raise Unavailable(f"{name} carries no hash to check it by")
        if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise Unavailable("nothing is downloaded (--no-download, or HF_HUB_OFFLINE is set)")
        folder.mkdir(parents=True, exist_ok=True)
        _has_room(folder, 0, name)
        with _telling(name, folder, 0):
            try:
                torch.hub.download_url_to_file(url, str(folder / name), wanted[1], progress=False)
            except RuntimeError as error:
                raise Unavailable(
                    f"what was downloaded is not what its name says, and was thrown away: {error}"[:300]
                ) from None
            except (OSError, ValueError) as error:
                raise Unavailable(f"{url} did not give it: {error}"[:300]) from None
    return {"name": name, "files": {}, "cached": {f"torch/hub/checkpoints/{name}": str((folder / name).resolve())}}


# What the other side hears


def _has_room(folder: Path, size: int, name: str) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free - size < ROOM_LEFT:
        raise Unavailable(
            f"{name} has {size / 1e6:.0f} MB, and {folder} has {free / 1e6:.0f} MB free, of which {ROOM_LEFT / 1e6:.0f} MB are kept"
        )


@contextlib.contextmanager
def _telling(name: str, folder: Path, total: int) -> Iterator[None]:
    """How many bytes there are, twice a second: both libraries write to a file beside the one it becomes."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(TELL):
            _say(fetching=name, bytes=_being_written(folder), total=total)

    _say(fetching=name, bytes=0, total=total)
    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _being_written(folder: Path) -> int:
    """Also what an earlier download left: only growth counts."""
    total = 0
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file.name.endswith(("incomplete", "partial")):
                total += file.stat().st_size
    return total


_say_lock = threading.Lock()


def _say(**told: Any) -> None:
    with _say_lock:
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
