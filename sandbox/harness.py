# ruff: noqa: TID251 - runs inside a job, in a child of the warm process
"""One step of a job, in its own process: smoke, train or predict with the script, and an exact account of what broke."""

import contextlib
import importlib.util
import itertools
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

SMOKE_EPOCHS = 2  # a smoke training runs to its end, so that what comes after the last epoch is tried too
SMOKE_CALLS = 3  # log() ends a training that does not keep to info.epochs at this call

DOWNLOADS = ("load_state_dict_from_url", "download_url_to_file", "download_cached_file")

MIXINGS = 4  # epochs of two batches: a transform that chooses between two mixings has shown both


def run_step(step: str, room: Path) -> int:
    """Run one step with the work directory as the current one; returns the exit status. What went wrong is in work/fault.json."""
    config = json.loads((room / "config.json").read_text(encoding="utf-8")) | {"room": str(room)}
    steps: dict[str, Callable[[ModuleType, dict[str, Any]], None]] = {
        "race": race,
        "smoke": smoke,
        "reload": reload,
        "train": train,
        "predict": predict,
    }
    try:
        with blamed(None):
            script = _script(room / "pipeline.py")
            if hasattr(script, "Loader"):  # a race may have no script
                _note_batches(script)
            steps[step](script, config)
    except BaseException as error:
        _account(step, error)
        return 1
    return 0


def race(script: ModuleType, config: dict[str, Any]) -> None:
    """The race of starting points, which is ours; the script, where there is one, is the network from scratch."""
    from sandbox.race import race as run_race  # noqa: PLC0415 - it imports timm, which other jobs may not need

    found = run_race(config, script if hasattr(script, "run_training") else None)
    Path("race.json").write_text(json.dumps(found), encoding="utf-8")


def smoke(script: ModuleType, config: dict[str, Any]) -> None:
    """Two real batches through everything; probes come in an order that makes blame certain."""
    out = Path("smoke")
    out.mkdir(exist_ok=True)
    data = script.read_data(Path(config["data"]))
    info = replace(script.make_info(data.facts, config), epochs=SMOKE_EPOCHS, seconds=1e9)
    script.set_up(info)
    small = _subset(script, data)
    with blamed("data"):
        transforms = script.build_transforms(info)
        prepared = _probe_data(script, transforms, small, info)
    with blamed("model"):
        model = script.build_model(info)
        if not isinstance(model, torch.nn.Module):
            raise script.ContractError("model", f"build_model returned {type(model).__name__}, expected an nn.Module")
        model = script.place(model, info)
        _probe_model(script, model, prepared, info)
        _probe_eval_size(script, model, transforms, small, info)
    script.set_up(info)
    allowance, size = script.Allowance(calls=SMOKE_CALLS), len(prepared)
    loaders = script.make_loaders(
        small.images,
        small.labels,
        small.inner,
        transforms,
        info,
        allowance=allowance,
        batch_size=size,
        limit=2,
        largest=size,
    )
    _probe_batches(script, loaders, info)
    model = script.place(script.build_model(info), info)
    facts = data.facts | {"precision": info.precision, "channels_last": info.channels_last}
    log = script.Log(out, script.metadata_of(facts), allowance)
    with blamed("training"):
        _probe_training(script, model, loaders, info, log)
    _write_plan(script, data, config)


def reload(script: ModuleType, config: dict[str, Any]) -> None:
    """In a fresh process: two batches predicted from the saved weights alone."""
    with blamed("model"):
        model, transforms, info = script.restored(Path("smoke/weights.safetensors"), config)
        images = np.load(next(iter(config["heldout"].values())), mmap_mode="r")[:16]
        _check_probabilities(script, script.probabilities(model, transforms, images, info))


def train(script: ModuleType, config: dict[str, Any]) -> None:
    script.main(["train", "--data", config["data"], "--out", ".", "--config", f"{config['room']}/config.json"])


def predict(script: ModuleType, config: dict[str, Any]) -> None:
    for split, array in config["heldout"].items():
        arguments = [
            "predict",
            "--weights",
            config.get("weights_file") or f"{config['room']}/weights.safetensors",
            "--array",
            array,
        ]
        script.main([*arguments, "--out", f"{split}.npy", "--config", f"{config['room']}/config.json"])


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pipeline", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline"] = module
    spec.loader.exec_module(module)
    return module


def _note_batches(script: ModuleType) -> None:
    """What was running when memory ran out: work/batch.json has the shape of the batch before it is used, written anew where that changes."""
    batches, noted, note = script.Loader.__iter__, [torch.Size()], Path("batch.json").absolute()

    def noting(loader: Any) -> Iterator[Any]:
        for images, targets in batches(loader):
            if images.shape != noted[0]:
                noted[0] = images.shape
                note.write_text(json.dumps(list(images.shape)), encoding="utf-8")
            yield images, targets

    script.Loader.__iter__ = noting


def _subset(script: ModuleType, data: Any) -> Any:
    """At most 96 images of many classes: enough for two batches and an inner split."""
    pixels = int(data.images[0].numel())
    count = min(len(data.labels), 96 if pixels <= 64 * 64 * 3 else 32)
    chosen = torch.linspace(0, len(data.labels) - 1, count).long()
    inner = torch.arange(count) % 4 == 3
    return script.Data(data.images[chosen], data.labels[chosen], inner, data.facts)


def _probe_data(script: ModuleType, transforms: Any, small: Any, info: Any) -> torch.Tensor:
    if not isinstance(transforms, script.Transforms):
        raise script.ContractError(
            "data", f"build_transforms returned {type(transforms).__name__}, expected Transforms(train=..., eval=...)"
        )
    images = small.images[~small.inner][: 32 if small.images[0].numel() <= 64 * 64 * 3 else 8].to(info.device)
    outputs = {
        name: script.transformed(getattr(transforms, name), images, per_image=transforms.per_image)
        for name in ("train", "eval")
    }
    for name, out in outputs.items():
        if not torch.isfinite(out).all():
            raise script.ContractError("data", f"the {name} transform gives values that are not finite")
        if out.shape[1] not in {1, 3}:
            raise script.ContractError(
                "data", f"the {name} transform gives {out.shape[1]} channels: {list(out.shape)}, expected 1 or 3"
            )
    again = script.transformed(transforms.eval, images, per_image=transforms.per_image)
    if not torch.equal(outputs["eval"], again):
        raise script.ContractError("data", "the eval transform is random: two calls on the same images differ")
    prepared: torch.Tensor = outputs["train"]
    return prepared


def _probe_batches(script: ModuleType, loaders: Any, info: Any) -> None:
    """The mixing of a batch, when there is one, keeps images and gives targets that a loss can use."""
    with blamed("data"):
        for images, targets in itertools.chain.from_iterable([loaders.train] * MIXINGS):
            soft = targets.ndim == 2 and targets.shape[1] == info.num_classes and targets.is_floating_point()
            if len(images) != len(targets) or not (soft or targets.dtype == torch.int64):
                raise script.ContractError(
                    "data",
                    f"a training batch has images {list(images.shape)} and targets {list(targets.shape)} {targets.dtype}, "
                    f"expected labels int64 [B] or soft targets float [B, {info.num_classes}]",
                )


def _probe_model(script: ModuleType, model: Any, images: torch.Tensor, info: Any) -> None:
    try:
        with torch.no_grad(), script.autocast(info):
            logits = model.train()(script.place(images, info))
    except RuntimeError as error:
        stored = torch.zeros(len(images), info.channels, info.height, info.width, device=info.device)
        if images.shape == stored.shape or not _takes(script, model, stored, info):
            raise
        raise script.ContractError(
            "data",
            f"the model takes the stored images {list(stored.shape)} but not what the train transform makes of them, "
            f"{list(images.shape)}: {error}",
        ) from error
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (len(images), info.num_classes):
        shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise script.ContractError(
            "model",
            f"the model turned {list(images.shape)} into {shape}, expected logits [{len(images)}, {info.num_classes}]",
        )
    if not torch.isfinite(logits).all():
        raise script.ContractError("model", "the logits of a fresh model are not finite")


def _takes(script: ModuleType, model: Any, images: torch.Tensor, info: Any) -> bool:
    try:
        with torch.no_grad(), script.autocast(info):
            model(script.place(images, info))
    except RuntimeError:
        return False
    return True


def _probe_eval_size(script: ModuleType, model: Any, transforms: Any, small: Any, info: Any) -> None:
    """The model has taken the train transform's images; where it cannot take those of eval, the two differ in size."""
    images = small.images[:2].to(info.device)
    prepared = script.transformed(transforms.eval, images, per_image=transforms.per_image)
    if not _takes(script, model.eval(), prepared, info):
        message = f"the model takes the train transform's images but not those of eval, {list(prepared.shape)}: give both the same size"
        raise script.ContractError("data", message)


def _probe_training(script: ModuleType, model: Any, loaders: Any, info: Any, log: Any) -> None:
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    form = _form(model)
    try:
        trained = script.train(model, loaders, info, log)
        if not isinstance(trained, torch.nn.Module):
            raise script.ContractError(
                "training", f"train returned {type(trained).__name__}, expected the trained model"
            )
        _check_form(script, form, _form(trained))
        log.keep(trained)
    except script.OutOfTime:
        trained = model
        if not log.kept:
            log.keep(model)
    changed = any(not torch.equal(before[n], v) for n, v in trained.named_parameters() if n in before)
    if not changed:
        raise script.ContractError(
            "training",
            "two training steps changed no weight: is the optimiser given the model's parameters, and stepped?",
        )


def _form(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is saved of a model; torch.compile puts something into the names."""
    return {name.replace("_orig_mod.", ""): tuple(value.shape) for name, value in model.state_dict().items()}


def _check_form(script: ModuleType, built: dict[str, tuple[int, ...]], trained: dict[str, tuple[int, ...]]) -> None:
    """Raises ContractError where the weights of what train returns could not be loaded into what build_model builds."""
    lacking = [name for name in built if name not in trained]
    more = [name for name in trained if name not in built]
    other = [name for name in built if name in trained and built[name] != trained[name]]
    told = [
        f"{what} {', '.join(names[:3])}"
        for what, names in (("lacks", lacking), ("has besides", more), ("has in another shape", other))
        if names
    ]
    if told:
        raise script.ContractError(
            "training",
            f"train returned a model of another form than build_model's: it {'; it '.join(told)}. Predictions are made with build_model and the "
            "weights alone: return a model of its form (an average, a student of the same architecture, LoRA merged into its layers), or let "
            "build_model build what is returned (an ensemble of its members)",
        )


def _write_plan(script: ModuleType, data: Any, config: dict[str, Any]) -> None:
    info = replace(script.make_info(data.facts, config), epochs=config.get("epochs") or script.PLANNED_EPOCHS[-1])
    script.set_up(info)
    # Not in /tmp: a step that touches it costs the next one a new sandbox, which takes seconds.
    info = script.measured(data, info, config, scratch=Path.cwd())
    plan = {
        name: asdict(info)[name] for name in ("epochs", "precision", "channels_last", "threads", "images_per_second")
    }
    Path("smoke.json").write_text(json.dumps(plan | _size(script, data, info)), encoding="utf-8")


def _size(script: ModuleType, data: Any, info: Any) -> dict[str, int]:
    """Parameters, and multiplications for one image. What cannot be counted is left out: it decides nothing."""
    found: dict[str, int] = {}
    with contextlib.suppress(Exception):
        model, transforms = script.place(script.build_model(info), info).eval(), script.build_transforms(info)
        found["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        image = script.transformed(transforms.eval, data.images[:1].to(info.device), per_image=transforms.per_image)
        with torch.no_grad(), FlopCounterMode(display=False) as counted:
            model(script.place(image, info))
        found["multiplications"] = counted.get_total_flops() // 2
    return found


def _check_probabilities(script: ModuleType, rows: np.ndarray) -> None:
    if not np.isfinite(rows).all():
        raise script.ContractError("model", "after two training steps the predicted probabilities are not finite")


@contextlib.contextmanager
def blamed(component: str | None) -> Iterator[None]:
    """Marks what is raised inside as this component's, where the traceback shows nothing better."""
    try:
        yield
    except BaseException as error:
        if not hasattr(error, "component") and component:
            error.probe = component  # type: ignore[attr-defined]
        raise


def _wanted(error: BaseException | None) -> str | None:
    """Pretrained weights that were looked up in vain: the argument of the function that did, anywhere in the chain of causes."""
    for _ in range(20):
        if error is None:
            return None
        if isinstance(name := getattr(error, "weights", None), str):
            return f"timm:{name}"
        for frame, _line in traceback.walk_tb(error.__traceback__):
            given = frame.f_locals
            if frame.f_code.co_name == "hf_hub_download" and isinstance(given.get("repo_id"), str):
                return f"hub:{given['repo_id']}"
            if frame.f_code.co_name in DOWNLOADS and isinstance(given.get("url"), str):
                return f"url:{given['url']}"
        error = error.__cause__ or error.__context__
    return None


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "it cannot be shown: its __str__ raises"


def _account(step: str, error: BaseException) -> None:
    """work/fault.json: read by the trusted side as untrusted text."""
    frames = [
        {"file": Path(frame.filename).name, "line": frame.lineno, "name": frame.name, "text": (frame.line or "")[:200]}
        for frame in traceback.extract_tb(error.__traceback__)
    ][-40:]
    fault = {
        "stage": "smoke" if step == "reload" else step,
        "kind": type(error).__name__,
        "message": _said(error)[:2000],
        "component": getattr(error, "component", None),
        "probe": getattr(error, "probe", None),
        "wants": _wanted(error),
        "frames": frames,
        "at": time.time(),
    }
    traceback.print_exception(error)
    Path("fault.json").write_text(json.dumps(fault), encoding="utf-8")
