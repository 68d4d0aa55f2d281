# ruff: noqa: TID251 - runs inside a job
"""The race step of a job: a linear head on the frozen features of each pretrained network.

The sample of images grows as the field narrows. What is said here is read as untrusted.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from sandbox.script.augment import pretrained_statistics, resize_batch, standardize
from sandbox.script.clock import Clock
from sandbox.script.toolbox import PENALTIES, _solved_head, load_pretrained

FOLDS = 3  # of the sample, each answered by a head that was solved on the others
BATCH = 32
FIRST_SAMPLE = 400  # images: enough to tell good features from poor ones
LARGEST_SAMPLE = 4000
FIRST_HEAT = 0.4  # of the time
FINALISTS = 2  # networks of the second heat
SOLVER_STEPS = 20
MIRROR_SHARE, MIRRORED = 0.1, 600  # of the time, and images
MIRROR_PENALTY = 0.03
LEAST_RIGHT = 10  # answers of a class, to say how it fares mirrored
LEAST_SECONDS = 4.0  # for a training from scratch
SCRATCH, SCRATCH_SHARE = "from scratch", 0.35  # of the time


@dataclass(frozen=True)
class Entry:
    """As schema.race.RaceEntry."""

    name: str
    height: int
    width: int
    pad_type: str
    images: int
    accuracy: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class Task:
    """The images of the race: uint8 [N, C, H, W], int64 [N], and int64 [N] for the order in which they come."""

    images: np.ndarray
    labels: torch.Tensor
    order: torch.Tensor
    classes: int
    weights: dict[str, str]
    device: torch.device

    def sample(self, count: int) -> torch.Tensor:
        return self.order[:count]


def race(config: dict[str, Any], script: Any = None) -> dict[str, Any]:
    """Run the heats within config["race_seconds"], and a training of `script`, if there is one, from scratch.

    Returns entries, the best head first and the network from scratch last, and a note on each runner that
    did not get through.
    """
    torch.manual_seed(config["seed"])
    torch.set_num_threads(config["threads"])
    folder, clock = Path(config["data"]), Clock()
    labels = np.load(folder / "labels.npy")
    facts = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    task = Task(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        labels=torch.from_numpy(labels),
        order=torch.from_numpy(stratified_order(labels, config["seed"])),
        classes=len(facts["classes"]),
        weights=config["weights"],
        device=torch.device("cuda" if config["device"] != "cpu" and torch.cuda.is_available() else "cpu"),
    )
    alone = 1.0 - MIRROR_SHARE - (SCRATCH_SHARE if script else 0.0)
    entries, notes = heats(
        config["runners"], alone * config["race_seconds"], clock, lambda *given: probed(task, *given)
    )
    try:
        mirror = mirror_test(task, entries, MIRROR_SHARE * config["race_seconds"])
    except RuntimeError as error:  # out of memory, say: the table stands without it
        mirror, notes = None, [*notes, f"mirror images were not tried: {str(error)[:200]}"]
    if script is not None:
        found = from_scratch(script, config, config["race_seconds"] - clock.seconds())
        entries += [found] if isinstance(found, Entry) else []
        notes += [] if isinstance(found, Entry) else [found]
    told = {"entries": [asdict(entry) for entry in entries], "notes": notes, "mirror": mirror}
    return told | {"seconds": round(clock.seconds(), 2)}


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return int64 [N] in which every beginning is a sample: each class comes about as often as in all."""
    draw = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = draw.permutation(np.nonzero(labels == label)[0])
        place[own] = (np.arange(len(own)) + draw.random(len(own))) / len(own)
    return np.argsort(place, kind="stable")


Probe = Callable[[dict[str, Any], int, float], Entry | str]


def heats(runners: list[dict[str, Any]], seconds: float, clock: Clock, probe: Probe) -> tuple[list[Entry], list[str]]:
    """Try every network at its first size on a small sample, then the best few at all sizes on a larger one.

    `probe(runner, images, seconds)` gives an entry, or says why there is none.
    """
    notes: list[str] = []
    beginners: dict[tuple[str, str], dict[str, Any]] = {}
    for runner in runners:
        beginners.setdefault((runner["name"], runner["pad_type"]), runner)
    first = []
    for runner in beginners.values():
        found = probe(runner, FIRST_SAMPLE, FIRST_HEAT * seconds / len(beginners))
        if isinstance(found, str):
            notes.append(found)
        else:
            first.append(found)
    first.sort(key=lambda entry: -entry.accuracy)
    own = {entry.name: entry for entry in reversed(first)}  # with its better padding
    finalists = [entry for entry in first if own[entry.name] is entry][:FINALISTS]
    second = [
        runner
        for entry in finalists
        for runner in runners
        if (runner["name"], runner["pad_type"]) == (entry.name, entry.pad_type)
    ]
    second, count = affordable(second, finalists, seconds - clock.seconds(), notes)
    entries: list[Entry] = []
    for runner in second:
        found = probe(runner, count, seconds)
        if isinstance(found, str):
            notes.append(found)
        else:
            entries.append(found)
    beaten = [entry for entry in first if entry.name not in {one.name for one in entries}]
    return sorted(entries, key=lambda entry: -entry.accuracy) + beaten, notes


def affordable(
    runners: list[dict[str, Any]], seen: list[Entry], seconds: float, notes: list[str]
) -> tuple[list[dict[str, Any]], int]:
    """Choose those that the second heat holds, and how many images each of them is shown.

    As many for all, since a larger sample makes a better head. The costliest stay out as long as the others would
    be shown fewer images than in the first heat.
    """
    cost: dict[int, float] = {}  # seconds an image: of its features, and of the head that is solved on them
    for runner in runners:
        entry = next(one for one in seen if one.name == runner["name"])
        larger = runner["height"] * runner["width"] / (entry.height * entry.width)
        head = max(0.0, entry.seconds - entry.images / entry.images_per_second) / entry.images
        cost[id(runner)] = larger / entry.images_per_second + head
    left = sorted(runners, key=lambda runner: cost[id(runner)])
    while left:
        count = int(seconds / sum(cost[id(runner)] for runner in left))
        if count >= FIRST_SAMPLE or len(left) == 1:
            return left, max(1, min(LARGEST_SAMPLE, count))
        out = left.pop()
        notes.append(f"{out['name']} at {out['width']} x {out['height']} was too slow for the second heat")
    return [], 0


def probed(task: Task, runner: dict[str, Any], most: int, seconds: float) -> Entry | str:
    """Try the runner on as many images of the sample as the time allows."""
    name, height, width = runner["name"], runner["height"], runner["width"]
    shown, clock = f"{name} at {width} x {height}", Clock()
    try:
        network = body(runner, task)
        features, speed = extracted(task, network, runner, most, seconds)
        if features is None:
            return f"{shown} is too slow here: {speed:.1f} images a second"
        labels = task.labels[task.sample(len(features))].to(task.device)
        accuracy = cross_validated(features, labels, task.classes)
    except Exception as error:  # a file that is damaged, a network that wants another size: the others run
        said = str(error).strip().split("\n")[0]
        return f"{shown} did not run: {type(error).__name__}: {said[:200]}"
    finally:
        if task.device.type == "cuda":
            torch.cuda.empty_cache()
    return Entry(
        name,
        height,
        width,
        runner["pad_type"],
        len(features),
        round(accuracy, 4),
        round(speed, 2),
        round(clock.seconds(), 2),
    )


def body(runner: dict[str, Any], task: Task) -> nn.Module:
    """Make the network without its head: images -> features [B, D].

    One of a family that is built for an image size is built for the runner's.
    """
    options = {"pad_type": runner["pad_type"]} if runner["pad_type"] else {}
    try:
        size = runner["height"], runner["width"]
        network: nn.Module = timm.create_model(runner["name"], num_classes=0, img_size=size, **options)
    except TypeError:
        network = timm.create_model(runner["name"], num_classes=0, **options)
    loaded = load_pretrained(network, _Weights(task.weights), runner["name"])  # type: ignore[arg-type]
    return loaded.to(task.device).to(memory_format=torch.channels_last).eval()


def mirror_test(task: Task, entries: list[Entry], seconds: float) -> dict[str, Any] | None:
    """Return a schema.race.MirrorTest, by the best network at its quickest size.

    None without one, or if it has learned too little to tell.
    """
    if not entries:
        return None
    same = [one for one in entries if (one.name, one.pad_type) == (entries[0].name, entries[0].pad_type)]
    runner = asdict(max(same, key=lambda one: one.images_per_second))
    network, half = body(runner, task), seconds / 2
    features, _ = extracted(task, network, runner, MIRRORED, half)
    if features is None:
        return None
    count = len(features)
    mirrored, _ = extracted(replace(task, images=task.images[..., ::-1]), network, runner, count, 10 * half)
    assert mirrored is not None
    labels = task.labels[task.sample(count)].to(task.device)
    right = torch.zeros(2, task.classes)
    for fold in range(FOLDS):
        held = torch.arange(count, device=task.device) % FOLDS == fold
        mean, std = features[~held].mean(0), features[~held].std(0)
        spread = std + 0.1 * std.mean() + 1e-6
        scaled = (features[~held] - mean) / spread
        weight, bias = _solved_head(scaled, labels[~held], task.classes, MIRROR_PENALTY)
        for number, shown in enumerate((features, mirrored)):
            answers = ((shown[held] - mean) / spread @ weight.T + bias).argmax(1)
            known = labels[held][answers == labels[held]]
            right[number] += torch.bincount(known, minlength=task.classes).cpu()
    plain, turned = right
    many = plain >= LEAST_RIGHT
    kept = float((turned[many] / plain[many]).min()) if many.any() else 1.0
    return {
        "images": count,
        "right": int(plain.sum()),
        "right_mirrored": int(turned.sum()),
        "least_kept": round(kept, 4),
    }


def from_scratch(script: Any, config: dict[str, Any], seconds: float) -> Entry | str:
    """Train the script in what is left of the time, and judge it by the inner validation images."""
    if seconds < LEAST_SECONDS:
        return "the network from scratch did not run: no time was left"
    folder, clock = Path("scratch"), Clock()
    folder.mkdir()
    try:
        data = script.read_data(Path(config["data"]))
        script.run_training(data, config | {"seconds": 0.8 * seconds, "patience": 1.25}, folder)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").strip().split("\n")
        last = [row for row in map(json.loads, lines) if "validation_accuracy" in row][-1]
        accuracy, speed = float(last["validation_accuracy"]), float(last["images_per_second"])
    except Exception as error:
        return f"the network from scratch did not run: {type(error).__name__}: {str(error)[:200]}"
    height, width = data.facts["height"], data.facts["width"]
    learned = int((~data.inner).sum())
    return Entry(SCRATCH, height, width, "", learned, accuracy, speed, round(clock.seconds(), 2))


@dataclass(frozen=True)
class _Weights:
    """What `load_pretrained` asks of `info`."""

    weights: dict[str, str]
    restoring: bool = False

    def pretrained(self, name: str) -> str:
        return self.weights[name]


@torch.no_grad()
def extracted(
    task: Task, network: nn.Module, runner: dict[str, Any], most: int, seconds: float
) -> tuple[torch.Tensor | None, float]:
    """Return features float32 [n, D] of the first images of the sample, and images per second.

    None if the time holds too few of them.
    """
    mean, std = pretrained_statistics(runner["name"])
    order, found, clock = task.sample(most), list[torch.Tensor](), Clock()
    least, timed, speed = min(len(order), max(2 * task.classes, 60)), Clock(), 0.0
    for start in range(0, len(order), BATCH):
        chunk = order[start : start + BATCH].numpy()
        images = torch.from_numpy(np.ascontiguousarray(task.images[chunk])).to(task.device)
        prepared = standardize(resize_batch(images, runner["height"], runner["width"]), mean, std)
        found.append(network(prepared.contiguous(memory_format=torch.channels_last)).float())
        done = start + len(chunk)
        if start == 0 and done < len(order):
            timed = Clock()  # the first batch warms up
            continue
        speed = max(1, done - BATCH) / max(1e-3, timed.seconds())
        if start <= 2 * BATCH and speed * seconds < least:
            return None, speed
        if clock.seconds() > 0.8 * seconds and done >= least:
            break  # the head wants time, too
    return torch.cat(found), speed


def cross_validated(features: torch.Tensor, labels: torch.Tensor, classes: int) -> float:
    """Return the accuracy 0..1 of a logistic head on images that it was not solved on, by its best penalty."""
    folds = torch.arange(len(features), device=features.device) % FOLDS
    best, starts = 0.0, dict[int, tuple[torch.Tensor, torch.Tensor]]()
    for penalty in PENALTIES:
        right = 0
        for fold in range(FOLDS):
            held = folds == fold
            mean, std = features[~held].mean(0), features[~held].std(0)
            scaled = (features - mean) / (std + 0.1 * std.mean() + 1e-6)
            known, start = (scaled[~held], labels[~held]), starts.get(fold)
            starts[fold] = weight, bias = _solved_head(*known, classes, penalty, start, steps=SOLVER_STEPS)
            right += int(((scaled[held] @ weight.T + bias).argmax(1) == labels[held]).sum())
        accuracy = right / len(features)
        if accuracy <= best:  # weaker ones only fit the sample better
            break
        best = accuracy
    return best
