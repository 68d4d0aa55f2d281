# ruff: noqa: TID251, T201 - runs inside a job, and on a person's machine as a command
"""The script's command line: train on a folder, predict with the weights."""

import argparse
import contextlib
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from sandbox.script.allowance import Allowance
from sandbox.script.checkpoint import BeginAnew, Checkpoint
from sandbox.script.components import build_model, build_transforms, decode, file_extent, shared_range, train
from sandbox.script.info import ContractError, Info, OutOfTime, Transforms
from sandbox.script.loaders import Data, make_loaders, on_device, transformed
from sandbox.script.logbook import Log, load_weights, metadata_of
from sandbox.script.measure import PLANNED_EPOCHS, measured
from sandbox.script.toolbox import autocast, place

DEFAULTS: dict[str, Any] = {}
IN_MEMORY = 4 * 2**30
PATIENCE = 1.5  # times its planned time a training may take; it is cut then
WORK_MARGIN = 1.02  # of the planned images: the last one of a training must not be refused for a rounding


def read_data(folder: Path) -> Data:
    """A folder that IMPROVE prepared, or a plain folder of class folders."""
    if not (folder / "dataset.json").exists():
        return read_class_folders(folder)
    array = np.load(
        folder / "images.npy", mmap_mode="r" if (folder / "images.npy").stat().st_size > IN_MEMORY else None
    )
    return Data(
        images=torch.from_numpy(array),
        labels=torch.from_numpy(np.load(folder / "labels.npy")),
        inner=torch.from_numpy(np.load(folder / "inner.npy")),
        facts=json.loads((folder / "dataset.json").read_text(encoding="utf-8")),
    )


def read_class_folders(folder: Path) -> Data:
    """Read every file that is an image, whatever its suffix; the others are skipped, and told."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    files = [(p, i) for i, name in enumerate(classes) for p in sorted((folder / name).iterdir()) if not p.is_dir()]
    extents, native = [], list[tuple[int, ...]]()
    skipped: dict[Path, str] = {}
    for path, _ in files:
        try:
            extents.append(file_extent(path))
            if len(native) < 20 and "size" not in DEFAULTS:
                native.append(decode(path, 1, None, None).shape[1:])
        except (OSError, ValueError) as error:
            skipped[path] = str(error)
    value_range = DEFAULTS.get("value_range") or shared_range(extent for extent in extents if extent)
    height, width = (min(256, side) for side in DEFAULTS.get("size") or max(native, default=(1, 1)))
    channels = DEFAULTS.get("channels", 3)
    images, labels = [], []
    for path, label in files:
        try:
            if path not in skipped:
                images.append(decode(path, channels, height, width, value_range))
                labels.append(label)
        except (OSError, ValueError) as error:
            skipped[path] = str(error)
    if skipped:
        shown = as_one_line("; ".join(f"{path} {reason}" for path, reason in list(skipped.items())[:3]))
        print(f"skipped {len(skipped)} of {len(files)} files that cannot be read as images: {shown}", flush=True)
    if len(set(labels)) < 2:
        sys.exit(f"{folder}: expected a folder with at least two class folders of images")
    return plain_data(np.stack(images), np.array(labels), classes, value_range)


def plain_data(
    images: np.ndarray, labels: np.ndarray, classes: list[str], value_range: tuple[float, float] | None
) -> Data:
    inner = np.random.default_rng(0).random(len(labels)) < 0.1
    train_pixels = images[~inner].astype(np.float32) / 255
    facts = {
        "classes": classes,
        "channels": images.shape[1],
        "height": images.shape[2],
        "width": images.shape[3],
        "mean": train_pixels.mean((0, 2, 3)).tolist(),
        "std": (train_pixels.std((0, 2, 3)) + 1e-6).tolist(),
        "counts": np.bincount(labels[~inner], minlength=len(classes)).tolist(),
        "value_range": value_range,
    }
    return Data(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(inner), facts)


def make_info(facts: dict[str, Any], config: dict[str, Any]) -> Info:
    wanted = config.get("device") or "auto"
    device = ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted
    return Info(
        **{key: facts[key] for key in ("classes", "channels", "height", "width", "mean", "std", "counts")},
        seed=config.get("seed", 0),
        device=torch.device(device),
        threads=config.get("threads") or torch.get_num_threads(),
        seconds=config.get("seconds") or 1200.0,
        epochs=config.get("epochs") or PLANNED_EPOCHS[-1],
        images_per_second=config.get("images_per_second"),
        precision=config.get("precision") or "float32",
        channels_last=bool(config.get("channels_last")),
        weights=config.get("weights") or {},
        restoring=bool(config.get("restoring")),
        value_range=tuple(facts["value_range"]) if facts.get("value_range") else None,  # older weights do not say it
    )


def set_up(info: Info) -> None:
    """The same seed gives the same weights on a CPU with the same number of threads."""
    torch.set_num_threads(info.threads)
    random.seed(info.seed)
    np.random.seed(info.seed % 2**32)
    torch.manual_seed(info.seed)
    torch.backends.cudnn.benchmark = True


def run_training(data: Data, config: dict[str, Any], out: Path) -> Path:
    """Train as the components say; returns the file with the weights to score. Out of time is a result, not an error."""
    info = make_info(data.facts, config)
    set_up(info)
    if config.get("epochs") is None or config.get("precision") is None:
        info = measured(data, info, config)
    allowance = Allowance(
        seconds=(config.get("patience") or PATIENCE) * info.seconds,
        images=WORK_MARGIN * info.epochs * len(data.labels),
    )
    checkpoint = Checkpoint(out / "checkpoint.pt", allowance, config.get("checkpoint_bytes", 0))
    info = replace(info, precision=checkpoint.precision or info.precision)
    while True:
        try:
            return one_training(data, info, allowance, out, checkpoint)
        except BeginAnew as reason:
            print(f"what the interrupted training kept does not fit: it begins anew ({reason})", flush=True)
        except FloatingPointError as error:
            if info.precision == "float32":
                raise
            print(f"{error}: once more from the beginning, in float32 instead of {info.precision}", flush=True)
            info = replace(info, precision="float32")
        checkpoint.forget()


def one_training(data: Data, info: Info, allowance: Allowance, out: Path, checkpoint: Checkpoint) -> Path:
    """From the seed, or from where it was interrupted, to the weights, in the precision of `info`.

    Raises FloatingPointError where loss or weights are not finite, BeginAnew where what was kept does not fit.
    """
    set_up(info)
    checkpoint.precision = info.precision
    (out / "metrics.jsonl").unlink(missing_ok=True)
    allowance.seen, Allowance.present = 0, allowance
    transforms = build_transforms(info)
    loaders = make_loaders(on_device(data, info), data.labels, data.inner, transforms, info, allowance=allowance)
    model = place(build_model(info), info)
    facts = data.facts | {"precision": info.precision, "channels_last": info.channels_last}
    log = Log(out, metadata_of(facts), allowance, checkpoint)
    try:
        trained = train(model, loaders, info, log)
        if not isinstance(trained, nn.Module):
            raise ContractError("training", f"train returned {type(trained).__name__}, expected the trained model")
        log.keep(trained)
    except OutOfTime:
        if not log.kept:
            log.keep(model)
        if allowance.cut:
            log.cut()
        else:
            print(f"the training ends here: it has had its {info.epochs} passes over the images", flush=True)
    return log.weights


@torch.no_grad()
def probabilities(model: nn.Module, transforms: Transforms, images: Any, info: Info) -> np.ndarray:
    """float32 [N, classes] for uint8 [N, C, H, W]: softmax averaged over the test-time views."""
    model = place(model, info).eval()
    size = max(8, min(512, 2**24 // max(1, images[0].size)))
    rows = []
    for start in range(0, len(images), size):
        batch = torch.from_numpy(np.array(images[start : start + size])).to(info.device)
        prepared = transformed(transforms.eval, batch, per_image=transforms.per_image)
        views = transforms.views or [lambda same: same]
        with autocast(info):
            logits = [model(place(view(prepared), info)) for view in views]
        rows.append(torch.stack([one.double().softmax(1) for one in logits]).mean(0).float().cpu().numpy())
    return np.concatenate(rows)


def restored(weights: Path, config: dict[str, Any]) -> tuple[nn.Module, Transforms, Info]:
    """The trained model from its file alone."""
    with safe_open(str(weights), "pt") as file:
        facts = json.loads(file.metadata()["improve"])
    own = {"precision": facts["precision"], "channels_last": facts["channels_last"]}
    known = config | own  # it predicts as it was trained, whatever was planned
    info = make_info(facts, known | {"restoring": True})
    if info.device.type == "cpu" and info.precision == "float16":
        info = replace(info, precision="float32")
    set_up(info)
    model = build_model(info)
    load_weights(model, weights)
    return model, build_transforms(info), info


def predict_files(weights: Path, files: list[Path], config: dict[str, Any]) -> Iterator[str]:
    model, transforms, info = restored(weights, config)
    for file in files:
        try:
            image = decode(file, info.channels, info.height, info.width, info.value_range)
        except (OSError, ValueError) as error:
            yield f"{as_one_line(file)}\tcannot be read: {as_one_line(error)}"
            continue
        row = probabilities(model, transforms, image[None], info)[0]
        top = row.argsort()[::-1][:3]
        yield "\t".join([as_one_line(file), *(f"{as_one_line(info.classes[i])}: {row[i]:.3f}" for i in top)])


def as_one_line(text: object) -> str:
    """Show a name in one line, without control characters and bytes that are no text."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train", help="train on a folder of class folders")
    trainer.add_argument("--data", type=Path, required=True, help="folder with one folder of images per class")
    trainer.add_argument("--out", type=Path, required=True, help="where weights.safetensors and metrics.jsonl go")
    for name, kind in (("seed", int), ("seconds", float), ("epochs", int), ("threads", int)):
        trainer.add_argument(f"--{name}", type=kind)
    trainer.add_argument("--weights-dir", type=Path, help="folder of pretrained safetensors, named after timm models")
    predictor = commands.add_parser("predict", help="class and probability of images")
    predictor.add_argument("--weights", type=Path, required=True, help="weights.safetensors of a training")
    predictor.add_argument("--array", type=Path, help="a .npy of uint8 [N, C, H, W] instead of image files")
    predictor.add_argument("--out", type=Path, help="with --array: where the probabilities go, float32 [N, classes]")
    predictor.add_argument("images", type=Path, nargs="*", help="image files")
    for command in (trainer, predictor):
        command.add_argument("--device", choices=["auto", "cpu", "cuda"])
        command.add_argument("--config", type=Path, help="a JSON file with these settings")
    chosen = vars(parser.parse_args(arguments))
    config = json.loads(chosen["config"].read_text()) if chosen["config"] else dict(DEFAULTS)
    config |= {
        key: chosen[key] for key in ("seed", "seconds", "epochs", "threads", "device") if chosen.get(key) is not None
    }
    if chosen["command"] == "train":
        if chosen["weights_dir"]:
            config["weights"] = {file.stem: str(file) for file in chosen["weights_dir"].glob("*.safetensors")}
        chosen["out"].mkdir(parents=True, exist_ok=True)
        print(f"weights: {run_training(read_data(chosen['data']), config, chosen['out'])}")
    elif chosen["array"]:
        model, transforms, info = restored(chosen["weights"], config)
        with contextlib.suppress(FileNotFoundError):
            chosen["out"].unlink()
        np.save(chosen["out"], probabilities(model, transforms, np.load(chosen["array"], mmap_mode="r"), info))
    else:
        for line in predict_files(chosen["weights"], chosen["images"], config):
            print(line)


if __name__ == "__main__":
    main()
