# ruff: noqa: TID251 - runs inside a job
"""Ready parts for the model and the training: pretrained weights, averaging, schedules, losses, a training loop."""

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from safetensors.torch import load_file
from torch import nn

from sandbox.script.allowance import Allowance
from sandbox.script.info import Info, NonFiniteLoss, OutOfTime

# Models


def load_pretrained(model: nn.Module, info: Info, name: str) -> nn.Module:
    """Load pretrained weights from disk into a timm model; a head of another shape keeps its fresh weights.

    Weights of another image size fit, too: timm fits the positions of a transformer to the model's `img_size`.
    Raises WeightsMissing where there are none of that name, ValueError where they do not fit the model.
    """
    if info.restoring:
        return model
    stored, own = load_file(info.pretrained(name)), model.state_dict()
    adapt = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if adapt:
        with suppress(KeyError, RuntimeError):  # a file that timm itself has saved may need no change, and take none
            stored = adapt(stored, model)
    fitting = {k: v.to(own[k].dtype) for k, v in stored.items() if k in own and v.shape == own[k].shape}
    backbone = [key for key in own if "classifier" not in key and "head" not in key and "fc" not in key]
    loaded = sum(key in fitting for key in backbone)
    if loaded < 0.9 * len(backbone):
        raise ValueError(
            f"only {loaded} of {len(backbone)} tensors of the {name} weights fit this model: is it the same architecture?"
        )
    model.load_state_dict(fitting, strict=False)
    return model


def freeze_early(model: nn.Module, share: float) -> nn.Module:
    """Keep the first `share` (0..1) of the parameters, and the batch statistics among them, as they are: less to compute, less to forget."""
    parameters = list(model.parameters())
    for parameter in parameters[: int(share * len(parameters))]:
        parameter.requires_grad_(False)
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own and not any(p.requires_grad for p in own):
            _always_evaluate(module)
    return model


def freeze_statistics(model: nn.Module) -> nn.Module:
    """Keep the mean and variance of every batch normalisation as they were learned in pretraining; its weights still learn.

    For fine-tuning: a head that was solved on these features keeps fitting them, and small batches or other image sizes do not disturb them.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _always_evaluate(module)
    return model


def _always_evaluate(module: nn.Module) -> None:
    module.eval()
    module.train = lambda mode=True, kept=module: kept  # type: ignore[method-assign, misc]  # noqa: ARG005 - train() and eval() call it


def fit_head(model: nn.Module, batches: Any, info: Info, weight_decay: float | None = None) -> None:
    """Solve the linear head on the features of one pass over `batches`: fine-tuning then begins from a sensible head.

    A random head would first distort good features (Kumar et al. 2022, arXiv:2202.10054). At most about a tenth of the time goes into the
    pass. Without a `weight_decay` it is the one of PENALTIES whose head answers a quarter of the images best that it was not solved on.
    """
    classifier: Any = getattr(model, "get_classifier", None)  # timm's name for it
    own = classifier() if classifier else None
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    head = own if own is not None or not linear else linear[-1]
    if not isinstance(head, nn.Linear) or head.out_features != info.num_classes:
        return  # a convolution, or several heads: fine-tuning alone must do
    place(model, info).eval()
    seen: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    # A forward pass alone is more than twice as fast as a step; before its speed is known a training is only tried.
    enough = 0.2 * info.seconds * info.images_per_second if info.images_per_second else 64
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().float()))
    with torch.no_grad():
        for images, labels in batches:
            with autocast(info):
                model(place(images, info))
            targets.append(labels)
            if len(targets) * len(labels) > enough:
                break
    hook.remove()
    features, answers = torch.cat(seen), torch.cat(targets)
    mean, std = features.mean(0), features.std(0, correction=0)
    spread = std + 0.1 * std.mean() + 1e-6  # a feature that hardly varies is not blown up
    scaled = (features - mean) / spread
    penalty = weight_decay if weight_decay is not None else _best_penalty(scaled, answers, info)
    weight, bias = _solved_head(scaled, answers, info.num_classes, penalty)
    with torch.no_grad():
        head.weight.copy_(weight / spread)
        if head.bias is not None:
            head.bias.copy_(bias - (weight / spread) @ mean)


PENALTIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)  # times the square of the head's weights, strongest first


def _best_penalty(features: torch.Tensor, answers: torch.Tensor, info: Info) -> float:
    """Weaker and weaker ones, each from the head of the one before, until the loss on every fourth image rises."""
    held = torch.arange(len(features), device=features.device) % 4 == 3
    if not held.any():
        return PENALTIES[len(PENALTIES) // 2]
    best, least, start = PENALTIES[0], math.inf, None
    targets = answers[held].argmax(1) if answers.ndim == 2 else answers[held]
    for penalty in PENALTIES:
        start = _solved_head(features[~held], answers[~held], info.num_classes, penalty, start)
        loss = F.cross_entropy(features[held] @ start[0].T + start[1], targets).item()
        if loss > least:
            break
        best, least = penalty, loss
    return best


def _solved_head(
    features: torch.Tensor,
    answers: torch.Tensor,
    classes: int,
    penalty: float,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    *,
    steps: int = 50,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [classes, features] and biases [classes] of the logistic regression with this penalty."""
    zeros = features.new_zeros(classes, features.shape[1]), features.new_zeros(classes)
    weight, bias = (value.clone().requires_grad_(True) for value in start or zeros)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weight.T + bias, answers) + penalty * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(cost)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


class EMA:
    """An exponential moving average of a model's weights: `ema.update(model)` after each step, `ema.model` is what to evaluate and to keep."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.steps = state["steps"]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))  # short trainings must not remember their first weights
        own, new = self.model.state_dict(), model.state_dict()
        averaged = [key for key, value in own.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([own[key] for key in averaged], [new[key] for key in averaged], 1 - decay)
        for key in own.keys() - set(averaged):
            own[key].copy_(new[key])


# Optimisation


def split_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of what is trained: weight decay on matrices and filters, none on biases and normalisation."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def layerwise_decay(model: nn.Module, lr: float, decay: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for fine-tuning: the last layer learns with `lr`, each earlier tenth of the layers with `decay` times less."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Few groups: an optimiser's fast kernels work on a group at a time.
    groups: dict[tuple[int, float], list[nn.Parameter]] = {}
    for position, parameter in enumerate(trained):
        depth = 10 * (len(trained) - 1 - position) // max(1, len(trained))
        groups.setdefault((depth, weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * decay**depth, "weight_decay": shrink}
        for (depth, shrink), parameters in groups.items()
    ]


def progress(done: float) -> float:
    """The share of the training that is over, 0..1: `done`, the share of its steps, or more if it is so late that its time ends sooner: for a schedule of your own that always lands."""
    return Allowance.present.progress(done) if Allowance.present else done


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.1
) -> torch.optim.lr_scheduler.LRScheduler:
    """Per step: linear rise over the first share of the steps, then a cosine down to zero; it gets there in time also if the training is late."""

    def down(over: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * over))

    return _warmed_up(optimizer, steps, warmup, down)


def warmup_linear(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.2
) -> torch.optim.lr_scheduler.LRScheduler:
    """Per step: linear rise, then linearly down to zero, in time also if the training is late: best for very short trainings."""
    return _warmed_up(optimizer, steps, warmup, lambda over: 1 - over)


def _warmed_up(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float, down: Callable[[float], float]
) -> torch.optim.lr_scheduler.LRScheduler:
    """`down` is the factor after the rise, by the share 0..1 of what follows it."""
    rise = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        over = (progress(step / max(1, steps)) * steps - rise) / max(1, steps - rise)
        return min((step + 1) / rise, down(min(1.0, max(0.0, over))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def soft_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy for labels int64 [B] or soft targets float [B, classes]; mean over the batch, each image by the weight of its own class.

    torch's own `weight` also weighs the smoothed share of every other class: a rare class then wins images that it does not own.
    """
    losses = F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)
    if weight is None:
        return losses.mean()
    own = weight[targets] if targets.ndim == 1 else targets @ weight
    return (own * losses).sum() / own.sum()


def focal_loss(logits: torch.Tensor, targets: torch.Tensor, gamma: float = 1.0) -> torch.Tensor:
    """Cross-entropy that counts confident answers less (Lin et al. 2017); labels int64 [B] or soft targets."""
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses).mean()


def class_weights(info: Info, power: float = 0.5) -> torch.Tensor:
    """float32 [classes] with mean 1: rare classes weigh (largest / own count) ** power times more."""
    counts = torch.tensor(info.counts, dtype=torch.float32, device=info.device).clamp(min=1)
    weights = (counts.max() / counts) ** power
    return weights / weights.mean()


def autocast(info: Info) -> AbstractContextManager[Any]:
    """The precision that was found fastest on this machine."""
    if info.precision == "float32":
        return nullcontext()
    return torch.autocast(info.device.type, getattr(torch, info.precision))


def place(tensor_or_model: Any, info: Info) -> Any:
    """On the device, in the memory layout that was found fastest; of a model the same object."""
    if info.channels_last:
        return tensor_or_model.to(info.device, memory_format=torch.channels_last)
    return tensor_or_model.to(info.device)


@torch.no_grad()
def evaluate(model: nn.Module, loader: Iterable[tuple[torch.Tensor, torch.Tensor]], info: Info) -> dict[str, float]:
    """`validation_loss` and `validation_accuracy` (these are the keys) over a loader with int64 labels."""
    model.eval()
    loss = right = seen = 0.0
    for images, labels in loader:
        with autocast(info):
            logits = model(place(images, info)).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(1) == labels).sum().item()
        seen += len(labels)
    return {"validation_loss": loss / max(1, seen), "validation_accuracy": right / max(1, seen)}


def fit(
    model: nn.Module,
    batches: Any,
    loaders: Any,
    info: Info,
    log: Any,
    *,
    epochs: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = soft_cross_entropy,
    clip: float | None = None,
    ema: EMA | None = None,
    keep: str = "last",
) -> nn.Module:
    """The usual loop: `batches` is loaders.train or loaders.everything, `schedule` is stepped per batch, `keep` is "last" or "best" (by inner validation). Returns the model to score.

    keep="last" returns the final weights (right for schedules that end at zero), keep="best" those with the best inner validation accuracy.
    A training that is interrupted goes on from the last epoch that log.epochs has kept.
    Raises NonFiniteLoss, and OutOfTime when the time is over.
    """
    place(model, info)
    if ema:
        place(ema.model, info)
    scaler = torch.amp.GradScaler(info.device.type, enabled=info.precision == "float16")
    best = {"accuracy": -1.0}
    judged = ema.model if ema else model
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "ema": ema, "scaler": scaler, "best": best}
    others = {"order": batches, "loss": loss}  # kept where they can be
    for epoch in log.epochs(epochs, **parts, **{k: v for k, v in others.items() if hasattr(v, "load_state_dict")}):
        try:
            metrics = _epoch(model, batches, info, optimizer, schedule, loss, clip, ema, scaler)
        except OutOfTime:
            if keep == "last":  # the schedule has landed by now, within this epoch
                log.keep(judged)
            raise
        metrics |= evaluate(judged, loaders.validation, info)
        better = metrics["validation_accuracy"] > best["accuracy"]
        best["accuracy"] = max(best["accuracy"], metrics["validation_accuracy"])
        if better or keep == "last":
            log.keep(judged)
        log(epoch, epochs=epochs, **metrics)
    return log.load_kept(judged) if keep == "best" else judged


# Steps between two looks at the loss, of 16 on a GPU: to look is to wait for all that was asked of the card.
LOOK_EVERY = {"cpu": 1}


def _check_finite(finite: torch.Tensor, value: torch.Tensor) -> None:
    """Raises NonFiniteLoss."""
    if not finite:
        raise NonFiniteLoss(
            f"the loss became {value.item()}; lower the learning rate, clip gradients, or check the inputs"
        )


def _epoch(  # noqa: PLR0917 - one loop, taken out of fit for its length
    model: nn.Module,
    batches: Any,
    info: Info,
    optimizer: Any,
    schedule: Any,
    loss: Any,
    clip: Any,
    ema: Any,
    scaler: Any,
) -> dict[str, float]:
    model.train()
    began, waited = time.perf_counter(), batches.seconds
    total = right = seen = torch.zeros((), device=info.device)
    finite, every = torch.ones((), dtype=torch.bool, device=info.device), LOOK_EVERY.get(info.device.type, 16)
    for number, (images, targets) in enumerate(batches, start=1):
        with autocast(info):
            logits = model(place(images, info))
        value = loss(logits, targets)
        finite = finite & torch.isfinite(value.detach())
        if number % every == 0:
            _check_finite(finite, value)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        if schedule:
            schedule.step()
        if ema:
            ema.update(model)
        labels = targets.argmax(1) if targets.ndim == 2 else targets
        total = total + value.detach() * len(labels)
        right = right + (logits.detach().argmax(1) == labels).sum()
        seen = seen + len(labels)
    _check_finite(finite, total)
    seconds, count = time.perf_counter() - began, max(1.0, float(seen))
    return {
        "train_loss": float(total) / count,
        "train_accuracy": float(right) / count,
        "learning_rate": optimizer.param_groups[-1]["lr"],
        "images_per_second": count / max(seconds, 1e-9),
        "data_seconds": batches.seconds - waited,
        "epoch_seconds": seconds,
    }
