# ruff: noqa: TID251, N812 - a peer is a process of its own
"""A fixed recipe as a careful person would write it down with timm.

One network, 224 pixels, AdamW, cosine, for as long as there is time.
"""

import math

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from benchmarks.peers.arrays import Images, Timer, given, images_in, prepared, size_for
from sandbox.script.augment import random_flip, random_resized_crop

BATCH, RATE, DECAY, SMOOTHING, WARMUP = 32, 5e-4, 0.05, 0.1, 0.05
LONGEST = 224
LEAST_EPOCHS = 2.0  # at 224 pixels; with less time the images are smaller
SIDES = (224, 192, 160, 128, 96)


def network(images: Images, name: str, weights: str, padding: str) -> nn.Module:
    options = {"pad_type": padding} if padding else {}
    model: nn.Module = timm.create_model(name, num_classes=images.classes, drop_rate=0.2, **options)
    own = model.state_dict()
    stored = {key: value for key, value in load_file(weights).items() if key in own}
    fitting = {key: value.to(own[key].dtype) for key, value in stored.items() if value.shape == own[key].shape}
    model.load_state_dict(fitting, strict=False)
    return model.to(memory_format=torch.channels_last)


class Training:
    def __init__(self, model: nn.Module, images: Images, size: tuple[int, int]) -> None:
        self.model, self.images, self.size = model, images, size
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}], lr=RATE
        )

    def step(self, chosen: torch.Tensor, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crops = random_resized_crop(self.images.train[chosen], *self.size, scale=(0.35, 1.0))
        logits = self.model(prepared(random_flip(crops), self.size))
        loss = F.cross_entropy(logits, self.images.labels[chosen], label_smoothing=SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    @torch.no_grad()
    def answers(self) -> np.ndarray:
        self.model.eval()
        rows = [self.model(prepared(part, self.size)).softmax(1) for part in self.images.test.split(64)]
        return torch.cat(rows).numpy()


def seconds_of_a_step(model: nn.Module, images: Images, size: tuple[int, int]) -> float:
    """Timed with rate 0, so that nothing is learned."""
    training, chosen = Training(model.train(), images, size), torch.arange(min(BATCH, len(images.labels)))
    training.step(chosen, 0.0)
    timer = Timer()
    for _ in range(3):
        training.step(chosen, 0.0)
    return timer() / 3


def main() -> None:
    timer, asked = Timer(), given()
    torch.manual_seed(asked.seed)
    images = images_in(asked.directory)
    model = network(images, asked.network, asked.weights, asked.padding)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    for side in SIDES:
        size = size_for(images.train, min(side, LONGEST))
        each = seconds_of_a_step(model, images, size)
        testing = 0.4 * each * len(images.test) / BATCH
        steps = int((0.95 * asked.seconds - timer() - testing) / each)
        if steps * BATCH >= LEAST_EPOCHS * len(images.labels):
            break
    model.load_state_dict(kept)
    training, order = Training(model.train(), images, size), list[int]()
    for done in range(steps):
        if len(order) < BATCH:
            order += torch.randperm(len(images.labels)).tolist()
        chosen, order = torch.tensor(order[:BATCH]), order[BATCH:]
        over = max(0.0, done - WARMUP * steps) / max(1.0, (1 - WARMUP) * steps)
        rate = RATE * min((done + 1) / max(1.0, WARMUP * steps), 0.5 * (1 + math.cos(math.pi * over)))
        training.step(chosen, rate)
        if timer() > asked.seconds - testing:
            break
    np.save(asked.out, training.answers())
    print(f"{size[1]} x {size[0]}, {steps * BATCH / len(images.labels):.1f} epochs")


if __name__ == "__main__":
    main()
