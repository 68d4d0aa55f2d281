# ruff: noqa: TID251 - runs inside a job
"""Ready parts for the data: normalisation, vectorised augmentation with one draw per image, mixing of a batch, test-time views."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own name for it

from sandbox.script.info import Info

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
    flip = torch.rand(len(images), device=images.device) < probability
    if images.device.type != "cpu":  # which images they are would have to be waited for
        return torch.where(flip.view(-1, 1, 1, 1), images.flip(-1), images)
    chosen = flip.nonzero().flatten()
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(-1))


def random_flip_vertical(images: torch.Tensor, probability: float = 0.5) -> torch.Tensor:
    """Mirror each image top to bottom with the given probability: satellite and microscope images."""
    flip = torch.rand(len(images), device=images.device) < probability
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(-2), images)


def random_transpose(images: torch.Tensor, probability: float = 0.5) -> torch.Tensor:
    """Swap rows and columns of each square image with the given probability; with both flips this gives every quarter turn."""
    swap = torch.rand(len(images), device=images.device) < probability
    return torch.where(swap.view(-1, 1, 1, 1), images.transpose(-2, -1), images)


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
    height, width = images.shape[-2:]
    cos, sin, zero = angle.cos() * scale, angle.sin() * scale, torch.zeros_like(angle)
    rows = [torch.stack((cos, -sin * height / width, zero), 1), torch.stack((sin * width / height, cos, zero), 1)]
    return _warped(images, torch.stack(rows, 1))


def _warped(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Each image by its own affine map float [B, 2, 3] from places of the new image to those of the old one; the border is repeated."""
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
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


MOVES = ("turn", "shear across", "shear down", "shift across", "shift down")
COLOURS = ("brightness", "contrast", "saturation", "fewer tones", "inverted highlights")


def trivial_augment(
    images: torch.Tensor, strength: float = 1.0, *, moves: bool = True, colours: bool = True
) -> torch.Tensor:
    """One change of each image, drawn anew and as strong as drawn, or none (TrivialAugment, arXiv:2103.10158): `moves` turn by up to 30 degrees, shear and shift; `colours` change tones.

    Pixels 0..255 in and out, of the same type.
    """
    names = ("none", *(MOVES if moves else ()), *(COLOURS if colours else ()))
    drawn = torch.randint(len(names), (len(images),), device=images.device)
    size = torch.empty(len(images), device=images.device).uniform_(-strength, strength)
    amounts = {name: size * (drawn == number) for number, name in enumerate(names)}
    out = _moved(images, amounts, (drawn > 0) & (drawn <= len(MOVES))) if moves else images
    out = _recoloured(out.float(), amounts, names, drawn) if colours else out
    return out.round().to(images.dtype) if images.dtype == torch.uint8 else out


def _moved(images: torch.Tensor, amounts: dict[str, torch.Tensor], moved: torch.Tensor) -> torch.Tensor:
    angle = amounts["turn"] * math.radians(30)
    shear_x, shear_y = 0.3 * amounts["shear across"], 0.3 * amounts["shear down"]
    shift_x, shift_y = 0.4 * amounts["shift across"], 0.4 * amounts["shift down"]
    height, width = images.shape[-2:]
    cos, sin = angle.cos(), angle.sin()
    rows = torch.stack((cos, shear_x - sin * height / width, shift_x), 1)
    columns = torch.stack((shear_y + sin * width / height, cos, shift_y), 1)
    matrix = torch.stack((rows, columns), 1)
    if images.device.type != "cpu":
        return torch.where(moved.view(-1, 1, 1, 1), _warped(images, matrix), images)
    chosen = moved.nonzero().flatten()
    return images.index_copy(0, chosen, _warped(images.index_select(0, chosen), matrix[chosen]))


def _recoloured(
    images: torch.Tensor, amounts: dict[str, torch.Tensor], names: tuple[str, ...], drawn: torch.Tensor
) -> torch.Tensor:
    def of(name: str) -> torch.Tensor:
        return amounts[name].view(-1, 1, 1, 1)

    out = images * (1 + 0.6 * of("brightness"))
    out = torch.lerp(out.mean((1, 2, 3), keepdim=True), out, 1 + 0.6 * of("contrast"))
    if images.shape[1] == 3:
        out = torch.lerp(out.mean(1, keepdim=True), out, 1 + 0.6 * of("saturation"))
    step = 2 ** (5 * of("fewer tones").abs()).round()
    out = torch.where((drawn == names.index("fewer tones")).view(-1, 1, 1, 1), (out / step).floor() * step, out)
    bright = out > 255 * (1 - 0.6 * of("inverted highlights").abs())
    out = torch.where((drawn == names.index("inverted highlights")).view(-1, 1, 1, 1) & bright, 255 - out, out)
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
    """The batch as it is."""
    return images


def flip_view(images: torch.Tensor) -> torch.Tensor:
    """The batch, mirrored left to right."""
    return images.flip(-1)


def vertical_flip_view(images: torch.Tensor) -> torch.Tensor:
    """The batch, mirrored top to bottom."""
    return images.flip(-2)


def shift_view(down: int, right: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The batch, shifted by a fixed number of pixels."""
    return lambda images: torch.roll(images, (down, right), (-2, -1))
