# ruff: noqa: TID251 - runs inside a job
"""Ready parts for the components: vectorised augmentation with one draw per image, mixing, schedules, a training loop."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it
from safetensors.torch import load_file
from torch import nn

from sandbox.script.info import Info, NonFiniteLoss

# Images


def normalize(images: torch.Tensor, info: Info) -> torch.Tensor:
    """uint8 or 0..255 float [B, C, H, W] -> float32 with zero mean and unit variance over the training images."""
    return standardize(images, info.mean, info.std)


def standardize(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """As `normalize`, with given statistics of pixels scaled to 0..1. Grey images become three channels where three are given."""
    if images.shape[-3] == 1 and len(mean) == 3:
        images = images.expand(-1, 3, -1, -1)
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device).view(-1, 1, 1)
    return images.to(torch.float32, copy=True).mul_(scale).add_(shift)


def pretrained_statistics(name: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that a timm model's weights were trained with, for `standardize`; ImageNet's where timm knows none."""
    import timm  # noqa: PLC0415 - a script without a timm model need not have it

    known = timm.get_pretrained_cfg(name)
    return (list(known.mean), list(known.std)) if known else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def random_flip(images: torch.Tensor, probability: float = 0.5) -> torch.Tensor:
    """Mirror each image left to right with the given probability. Only where a mirror image has the same label."""
    flip = (torch.rand(len(images), device=images.device) < probability).nonzero().flatten()
    return images.index_copy(0, flip, images.index_select(0, flip).flip(-1))


def random_flip_vertical(images: torch.Tensor, probability: float = 0.5) -> torch.Tensor:
    """Mirror each image top to bottom with the given probability: satellite and microscope images."""
    flip = torch.rand(len(images), device=images.device) < probability
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(-2), images)


def random_transpose(images: torch.Tensor, probability: float = 0.5) -> torch.Tensor:
    """Swap rows and columns of each square image with the given probability; with both flips this gives every quarter turn."""
    swap = (torch.rand(len(images), device=images.device) < probability).nonzero().flatten()
    return images.index_copy(0, swap, images.index_select(0, swap).transpose(-2, -1).contiguous())


def random_translate(images: torch.Tensor, pixels: int, mode: str = "reflect") -> torch.Tensor:
    """Shift each image by up to `pixels` in both directions; the border is filled by reflection, or by zeros with mode="constant"."""
    count, _, height, width = images.shape
    padded = _pad(images, pixels, mode)
    down, right = torch.randint(0, 2 * pixels + 1, (2, count), device=images.device)
    if images.device.type == "cpu":  # numpy copies such windows twice as fast as torch
        views = np.lib.stride_tricks.sliding_window_view(padded.numpy(), (height, width), axis=(2, 3))
        return torch.from_numpy(views[np.arange(count), :, down.numpy(), right.numpy()])
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, down, right]


def _pad(images: torch.Tensor, pixels: int, mode: str) -> torch.Tensor:
    if mode == "constant":
        return F.pad(images, (pixels,) * 4)
    rows = _reflected(images.shape[-2], pixels, images.device)
    columns = _reflected(images.shape[-1], pixels, images.device)
    return images.index_select(-2, rows).index_select(-1, columns)


def _reflected(size: int, pixels: int, device: torch.device) -> torch.Tensor:
    position = torch.arange(-pixels, size + pixels, device=device).abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position).clamp(0, size - 1)


def cutout(images: torch.Tensor, size: int) -> torch.Tensor:
    """Cover one square of `size` pixels per image with the image's mean."""
    count, _, height, width = images.shape
    top = torch.randint(0, height, (count, 1), device=images.device) - size // 2
    left = torch.randint(0, width, (count, 1), device=images.device) - size // 2
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside_rows = (rows >= top) & (rows < top + size)
    inside_columns = (columns >= left) & (columns < left + size)
    covered = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    fill = images.float().mean((-2, -1), keepdim=True).to(images.dtype)
    return torch.where(covered, fill, images)


def resize_batch(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Antialiased resize of uint8 or float [B, C, H, W]."""
    if images.shape[-2:] == (height, width):
        return images
    if images.is_floating_point() or images.device.type == "cpu":
        return F.interpolate(images, (height, width), mode="bilinear", antialias=True)
    resized = F.interpolate(images.float(), (height, width), mode="bilinear", antialias=True)  # whole numbers: CPU only
    return resized.round_().clamp_(0, 255).to(images.dtype)


def random_resized_crop(
    images: torch.Tensor, height: int, width: int, scale: tuple[float, float] = (0.35, 1.0), ratio: float = 4 / 3
) -> torch.Tensor:
    """A random part of each image (its share of the area within `scale`, aspect changed by up to `ratio`), resized to height x width."""
    count, channels, full_height, full_width = images.shape
    area = torch.empty(count).uniform_(*scale)
    aspect = torch.empty(count).uniform_(-math.log(ratio), math.log(ratio)).exp()
    heights = (full_height * (area / aspect).sqrt()).round().clamp(1, full_height).int().tolist()
    widths = (full_width * (area * aspect).sqrt()).round().clamp(1, full_width).int().tolist()
    places = torch.rand(count, 2).tolist()
    out = images.new_empty(count, channels, height, width)
    for i, (h, w, (down, right)) in enumerate(zip(heights, widths, places, strict=True)):
        top, left = int(down * (full_height - h + 1)), int(right * (full_width - w + 1))
        out[i] = resize_batch(images[i : i + 1, :, top : top + h, left : left + w], height, width)[0]
    return out


def random_rotate(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Rotate each image by up to `degrees` either way about its centre; the border is repeated."""
    angle = torch.empty(len(images), device=images.device).uniform_(-degrees, degrees).deg2rad()
    return _warp(images, angle, torch.ones_like(angle))


def random_rotate_and_zoom(images: torch.Tensor, degrees: float, zoom: float) -> torch.Tensor:
    """Rotate by up to `degrees` and scale by up to 1 ± `zoom`, both drawn per image."""
    angle = torch.empty(len(images), device=images.device).uniform_(-degrees, degrees).deg2rad()
    return _warp(images, angle, torch.empty_like(angle).uniform_(1 - zoom, 1 + zoom))


def _warp(images: torch.Tensor, angle: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    count, channels, height, width = images.shape
    cos, sin, zero = angle.cos() * scale, angle.sin() * scale, torch.zeros_like(angle)
    rows = [torch.stack((cos, -sin * height / width, zero), 1), torch.stack((sin * width / height, cos, zero), 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [count, channels, height, width], align_corners=False)
    moved = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return moved.round_().to(images.dtype) if images.dtype == torch.uint8 else moved


def color_jitter(
    images: torch.Tensor, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0
) -> torch.Tensor:
    """Change brightness, contrast and saturation of each image by up to the given shares. Pixels 0..255 in, float32 0..255 out."""

    def factor(strength: float) -> torch.Tensor:
        return torch.empty(len(images), 1, 1, 1, device=images.device).uniform_(1 - strength, 1 + strength)

    out = images.float()
    if brightness:
        out = out * factor(brightness)
    if contrast:
        out = torch.lerp(out.mean((1, 2, 3), keepdim=True), out, factor(contrast))
    if saturation and images.shape[1] == 3:
        out = torch.lerp(out.mean(1, keepdim=True), out, factor(saturation))
    return out.clamp_(0, 255)


# Mixing of a whole batch


def mixup(images: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each image with another one (Zhang et al. 2018). Returns images and soft targets [B, classes]."""
    share = _beta(alpha, len(images), images.device)
    other = torch.randperm(len(images), device=images.device)
    targets = F.one_hot(labels, classes).float()
    mixed = torch.lerp(images[other], images, share.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[other], targets, share.view(-1, 1))


def cutmix(images: torch.Tensor, labels: torch.Tensor, classes: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste a rectangle of another image into each image (Yun et al. 2019). Returns images and soft targets [B, classes]."""
    count, _, height, width = images.shape
    side = (1 - _beta(alpha, count, images.device)).sqrt()
    rows, columns = _span(side, height), _span(side, width)
    pasted = rows[:, :, None] & columns[:, None, :]
    other = torch.randperm(count, device=images.device)
    mixed = torch.where(pasted[:, None], images[other], images)
    share = 1 - pasted.float().mean((1, 2)).view(-1, 1)
    targets = F.one_hot(labels, classes).float()
    return mixed, torch.lerp(targets[other], targets, share)


def _span(side: torch.Tensor, size: int) -> torch.Tensor:
    length = (side * size).round()
    start = ((size - length + 1) * torch.rand_like(side)).floor()
    position = torch.arange(size, device=side.device)
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def _beta(alpha: float, count: int, device: torch.device) -> torch.Tensor:
    # Drawn on the CPU: torch's gamma sampler takes no part in the device's own generator order.
    return torch.distributions.Beta(alpha, alpha).sample((count,)).to(device)


# Test-time views: functions on a batch that eval has already transformed


def identity_view(images: torch.Tensor) -> torch.Tensor:
    return images


def flip_view(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-1)


def vertical_flip_view(images: torch.Tensor) -> torch.Tensor:
    return images.flip(-2)


def shift_view(down: int, right: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The batch, shifted by a fixed number of pixels."""
    return lambda images: torch.roll(images, (down, right), (-2, -1))


# Models


def load_pretrained(model: nn.Module, info: Info, name: str) -> nn.Module:
    """Load pretrained weights from disk into a timm model; a head of another shape keeps its fresh weights.

    Raises WeightsMissing where there are none of that name, ValueError where they do not fit the model.
    """
    if info.restoring:
        return model
    stored, own = load_file(info.pretrained(name)), model.state_dict()
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
            module.eval()
            module.train = lambda mode=True, kept=module: kept  # type: ignore[method-assign, misc]  # noqa: ARG005 - train() and eval() call it
    return model


def fit_head(model: nn.Module, batches: Any, info: Info, weight_decay: float = 1e-3) -> None:
    """Solve the linear head on the features of one pass over `batches`: fine-tuning then begins from a sensible head.

    A random head would first distort good features (Kumar et al. 2022, arXiv:2202.10054). At most about a tenth of the time goes into the pass.
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
    enough = (
        0.2 * info.seconds * (info.images_per_second or float("inf"))
    )  # a forward pass alone is more than twice as fast
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
    mean, std = features.mean(0), features.std(0, correction=0).clamp(min=1e-5)
    scaled = (features - mean) / std
    weight = torch.zeros_like(head.weight, requires_grad=True)
    bias = torch.zeros(head.out_features, device=weight.device, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(scaled @ weight.T + bias, answers, label_smoothing=0.1)
        value = value + weight_decay * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(cost)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.copy_(weight / std)
        if head.bias is not None:
            head.bias.copy_(bias - (weight / std) @ mean)


class EMA:
    """An exponential moving average of a model's weights: `ema.model` is what to evaluate and to keep."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.steps = 0

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
    """Parameter groups: weight decay on matrices and filters, none on biases and normalisation."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def layerwise_decay(model: nn.Module, lr: float, decay: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Parameter groups for fine-tuning: the last layer learns with `lr`, each earlier tenth of the layers with `decay` times less."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for position, (_, parameter) in enumerate(named):
        depth = 10 * (len(named) - 1 - position) // max(1, len(named))
        shrink = weight_decay if parameter.ndim > 1 else 0.0
        groups.append({"params": [parameter], "lr": lr * decay**depth, "weight_decay": shrink})
    return groups


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.1
) -> torch.optim.lr_scheduler.LRScheduler:
    """Per step: linear rise over the first share of the steps, then a cosine down to zero."""
    rise = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def warmup_linear(
    optimizer: torch.optim.Optimizer, steps: int, warmup: float = 0.2
) -> torch.optim.lr_scheduler.LRScheduler:
    """Per step: linear rise, then linearly down to zero: best for very short trainings."""
    rise = max(1, int(warmup * steps))

    def factor(step: int) -> float:
        return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))

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
    """On the device, in the memory layout that was found fastest."""
    if info.channels_last:
        return tensor_or_model.to(info.device, memory_format=torch.channels_last)
    return tensor_or_model.to(info.device)


@torch.no_grad()
def evaluate(model: nn.Module, loader: Iterable[tuple[torch.Tensor, torch.Tensor]], info: Info) -> dict[str, float]:
    """Loss and accuracy over a loader with int64 labels."""
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
    """The usual loop: `batches` is loaders.train or loaders.everything. Returns the model to score.

    keep="last" returns the final weights (right for schedules that end at zero), keep="best" those with the best inner validation accuracy.
    Raises NonFiniteLoss, and OutOfTime when the time is over.
    """
    place(model, info)
    if ema:
        place(ema.model, info)
    scaler = torch.amp.GradScaler(info.device.type, enabled=info.precision == "float16")
    best = -1.0
    judged = ema.model if ema else model
    for epoch in range(1, epochs + 1):
        metrics = _epoch(model, batches, info, optimizer, schedule, loss, clip, ema, scaler)
        metrics |= evaluate(judged, loaders.validation, info)
        better = metrics["validation_accuracy"] > best
        best = max(best, metrics["validation_accuracy"])
        if better or keep == "last":
            log.keep(judged)
        log(epoch, epochs=epochs, **metrics)
    return log.best(judged) if keep == "best" else judged


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
    for images, targets in batches:
        with autocast(info):
            logits = model(place(images, info))
        value = loss(logits, targets)
        if not torch.isfinite(value):
            raise NonFiniteLoss(
                f"the loss became {value.item()}; lower the learning rate, clip gradients, or check the inputs"
            )
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
    seconds, count = time.perf_counter() - began, max(1.0, float(seen))
    return {
        "train_loss": float(total) / count,
        "train_accuracy": float(right) / count,
        "learning_rate": optimizer.param_groups[-1]["lr"],
        "images_per_second": count / max(seconds, 1e-9),
        "data_seconds": batches.seconds - waited,
        "epoch_seconds": seconds,
    }
