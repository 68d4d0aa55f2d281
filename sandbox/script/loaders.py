# ruff: noqa: TID251 - runs inside a job
"""Batches from a decode-once uint8 array: gathered by index, augmented as a whole batch on the device, one draw per image."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from sandbox.script.allowance import Allowance
from sandbox.script.info import ContractError, ImageFunction, Info, Transforms

TIMED_BATCHES = 10  # on a GPU one of so many is timed


@dataclass(frozen=True)
class Data:
    """Training images uint8 [N, C, H, W], labels int64 [N], inner bool [N], and what describes them."""

    images: torch.Tensor
    labels: torch.Tensor
    inner: torch.Tensor
    facts: dict[str, Any]  # classes, channels, height, width, mean, std, counts


@dataclass
class Loader:
    """Iterating it is one epoch of (images float [B, C, H, W], targets) on the device. Raises OutOfTime if the allowance is used up."""

    images: torch.Tensor  # uint8 [N, C, H, W], in memory, memory-mapped, or on the device
    labels: torch.Tensor  # int64 [N]
    indices: torch.Tensor
    batch_size: int
    transform: ImageFunction
    per_image: bool
    device: torch.device
    allowance: Allowance
    mix: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
    shuffle: bool = False
    generator: torch.Generator | None = None
    balanced: bool = False  # draw every class equally often, with replacement
    limit: int | None = None  # batches per epoch, where a training is only tried
    seconds: float = 0.0  # time spent making batches

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Of the order in which the images will come."""
        return {"generator": self.generator.get_state()} if self.generator else {}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        if self.generator:
            self.generator.set_state(state["generator"])

    def __len__(self) -> int:
        whole = len(self.indices) // self.batch_size
        ragged = len(self.indices) % self.batch_size > 0 and (not self.shuffle or whole == 0)
        return min(whole + ragged, self.limit or whole + ragged)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order, answers = self._order(), self.labels
        if self.images.device.type == "cuda":  # once for a pass: a copy in every step would wait for the step before
            order, answers = order.to(self.images.device), answers.to(self.images.device)
        chunks = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(len(self))]
        for number, (images, labels) in enumerate(self._gathered(chunks, answers)):
            if self.shuffle:
                self.allowance.take(len(images), first=number == 0)
            else:
                self.allowance.check()
            yield self._timed(number, partial(self._finished, images, labels))

    def _timed(self, number: int, work: Callable[[], Any]) -> Any:
        """Do part of the making of a batch, and count its seconds. On a GPU only that of some batches is timed, with nothing else under way:
        the clock of the CPU would count the wait for the network, too."""
        on_gpu = self.device.type == "cuda"
        if on_gpu and number % TIMED_BATCHES:
            return work()
        if on_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        made = work()
        if on_gpu:
            torch.cuda.synchronize()
        self.seconds += (time.perf_counter() - began) * (TIMED_BATCHES if on_gpu else 1)
        return made

    def _order(self) -> torch.Tensor:
        if self.balanced:
            own = self.labels[self.indices]
            weights = 1.0 / torch.bincount(own).clamp(min=1).double()[own]
            return self.indices[torch.multinomial(weights, len(own), replacement=True, generator=self.generator)]
        if self.shuffle:
            return self.indices[torch.randperm(len(self.indices), generator=self.generator)]
        return self.indices

    def _gathered(
        self, chunks: list[torch.Tensor], answers: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """On a GPU whose memory does not hold the array, the next batches are gathered while this one is used."""
        if self.device.type != "cuda" or self.images.device.type == "cuda":
            for number, chunk in enumerate(chunks):
                yield self._timed(number, partial(self._gather, chunk, answers))
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = [pool.submit(self._gather, chunk, answers) for chunk in chunks[:3]]
            for i in range(len(chunks)):
                if i + 3 < len(chunks):
                    ahead.append(pool.submit(self._gather, chunks[i + 3], answers))
                began = time.perf_counter()
                batch = ahead.pop(0).result()
                self.seconds += time.perf_counter() - began
                yield batch

    def _gather(self, chunk: torch.Tensor, answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.images.index_select(0, chunk), answers.index_select(0, chunk)
        on_gpu = self.images.device.type == "cuda"
        return (
            (images.pin_memory(), labels.pin_memory())
            if self.device.type == "cuda" and not on_gpu
            else (images, labels)
        )

    def _finished(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        out = transformed(self.transform, images, per_image=self.per_image)
        return self.mix(out, labels) if self.mix else (out, labels)


@dataclass
class Loaders:
    """`train` and `everything` are shuffled and augmented; `validation` is the inner split, for curves and early stopping."""

    train: Loader
    validation: Loader
    everything: Loader  # training and inner validation images together
    batch_size: int
    _rebuild: Callable[[int, bool], "Loaders"]

    def with_batch_size(self, size: int) -> "Loaders":
        return self._rebuild(size, self.train.balanced)

    def with_balanced_classes(self) -> "Loaders":
        """Every class is drawn equally often, with replacement."""
        return self._rebuild(self.batch_size, True)


def transformed(transform: ImageFunction, images: torch.Tensor, *, per_image: bool) -> torch.Tensor:
    """Apply the data component's transform and hold it to its face."""
    out: Any = torch.stack([transform(image) for image in images]) if per_image else transform(images)
    if not isinstance(out, torch.Tensor):
        raise ContractError("data", f"the transform returned {type(out).__name__}, expected a tensor")
    if out.ndim != 4 or len(out) != len(images):
        raise ContractError(
            "data",
            f"the transform turned {list(images.shape)} into {list(out.shape)}, expected [B, C, H, W] with the same B",
        )
    if not out.is_floating_point():
        raise ContractError("data", f"the transform returned {out.dtype}, expected float32: normalise the images")
    return out.float()


def make_loaders(
    images: torch.Tensor,
    labels: torch.Tensor,
    inner: torch.Tensor,
    transforms: Transforms,
    info: Info,
    *,
    allowance: Allowance | None = None,
    batch_size: int | None = None,
    balanced: bool = False,
    limit: int | None = None,
    largest: int | None = None,
) -> Loaders:
    """Loaders over uint8 [N, C, H, W], int64 [N]; `inner` bool [N] marks the inner validation images.

    With `limit` an epoch has so many batches at most, with `largest` a batch so many images.
    """
    allowed = allowance or Allowance()
    size = batch_size or max(8, min(128, int((~inner).sum()) // 16))

    def loader(indices: torch.Tensor, *, train: bool) -> Loader:
        return Loader(
            images=images,
            labels=labels,
            indices=indices,
            batch_size=size if train else max(size, min(512, 2**24 // max(1, images[0].numel()))),
            transform=transforms.train if train else transforms.eval,
            per_image=transforms.per_image,
            device=info.device,
            allowance=allowed,
            mix=transforms.batch if train else None,
            shuffle=train,
            balanced=balanced and train,
            generator=torch.Generator().manual_seed(info.seed) if train else None,
            limit=limit,
        )

    def rebuild(new_size: int, new_balanced: bool) -> Loaders:
        return make_loaders(
            images,
            labels,
            inner,
            transforms,
            info,
            allowance=allowed,
            batch_size=min(largest, new_size) if largest else new_size,
            balanced=new_balanced,
            limit=limit,
            largest=largest,
        )

    everything = torch.arange(len(labels))
    return Loaders(
        train=loader(everything[~inner], train=True),
        validation=loader(everything[inner], train=False),
        everything=loader(everything, train=True),
        batch_size=size,
        _rebuild=rebuild,
    )


def on_device(data: Data, info: Info) -> torch.Tensor:
    """The whole array on the GPU where a quarter of its free memory holds it."""
    if info.device.type == "cuda" and data.images.numel() < torch.cuda.mem_get_info()[0] // 4:
        return data.images.to(info.device)
    return data.images
