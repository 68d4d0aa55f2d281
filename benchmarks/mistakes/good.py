"""Eight different pipelines that are right: the mistakes are made in them, and none of them may raise an alarm."""

from schema.pipeline import Pipeline

PLAIN_DATA = """
def build_transforms(info):
    def train(images):
        return normalize(random_translate(images, 1), info)

    def evaluate(images):
        return normalize(images, info)

    return Transforms(train=train, eval=evaluate)
"""

PER_IMAGE_DATA = """
import torch
from torchvision.transforms import v2


def build_transforms(info):
    finish = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean=info.mean, std=info.std)]
    train = v2.Compose([v2.RandomCrop(info.height, padding=1), v2.RandomErasing(p=0.0), *finish])
    evaluate = v2.Compose(finish)
    return Transforms(train=train, eval=evaluate, per_image=True)
"""

MIXED_DATA = """
import torch

ALPHA = 0.4


def build_transforms(info):
    def train(images):
        images = resize_batch(images.float(), 16, 16)
        images = random_rotate(images, 10.0)
        return normalize(cutout(images, 3), info)

    def evaluate(images):
        return normalize(resize_batch(images.float(), 16, 16), info)

    def mix(images, labels):
        if torch.rand(()) < 0.5:
            return mixup(images, labels, info.num_classes, ALPHA)
        return cutmix(images, labels, info.num_classes, alpha=1.0)

    return Transforms(train=train, eval=evaluate, batch=mix, views=[identity_view, shift_view(0, 1)])
"""

OWN_MIXUP_DATA = '''
import numpy as np
import torch
import torch.nn.functional as F


class Normalise:
    """Own statistics, computed once."""

    def __init__(self, info):
        self.mean = torch.tensor(info.mean, device=info.device).view(1, -1, 1, 1)
        self.std = torch.tensor(info.std, device=info.device).view(1, -1, 1, 1)

    def __call__(self, images):
        return (images.float() / 255.0 - self.mean) / self.std


def build_transforms(info):
    finish = Normalise(info)

    def train(images):
        noise = torch.randn(images.shape, device=images.device) * 4
        return finish((images.float() + noise).clamp(0, 255))

    def blend(images, labels):
        share = float(np.random.beta(0.2, 0.2))
        other = torch.randperm(images.size(0), device=images.device)
        targets = F.one_hot(labels, info.num_classes).float()
        return share * images + (1 - share) * images[other], share * targets + (1 - share) * targets[other]

    return Transforms(train=train, eval=finish, batch=blend)
'''

CONV_MODEL = """
from torch import nn


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Net(nn.Module):
    def __init__(self, channels, num_classes):
        super().__init__()
        self.features = nn.Sequential(block(channels, 32), nn.MaxPool2d(2), block(32, 64), nn.AdaptiveAvgPool2d(1))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.features(x).flatten(1)
        return self.head(self.dropout(x))


def build_model(info):
    return Net(info.channels, info.num_classes)
"""

RESIDUAL_MODEL = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class Residual(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResidualNet(nn.Module):
    def __init__(self, channels: int, num_classes: int, width: int = 24):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.stages = nn.ModuleList([Residual(width, width), Residual(width, 2 * width, 2)])
        self.fc = nn.Linear(2 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def build_model(info):
    return ResidualNet(info.channels, info.num_classes)
"""

TIMM_MODEL = """
import timm
import torch


def build_model(info):
    model = timm.create_model("test_resnet", pretrained=False, in_chans=info.channels, num_classes=info.num_classes)
    torch.nn.init.zeros_(model.get_classifier().bias)
    return model
"""

TORCHVISION_MODEL = """
import torchvision
from torch import nn


def build_model(info):
    net = torchvision.models.shufflenet_v2_x0_5(weights=None)
    net.conv1[0] = nn.Conv2d(info.channels, 24, 3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    net.fc = nn.Linear(net.fc.in_features, info.num_classes)
    return net
"""

ATTENTION_MODEL = """
import torch
from torch import nn


class Patches(nn.Module):
    def __init__(self, channels, size, num_classes, width=48, patch=2, depth=2):
        super().__init__()
        count = (size[0] // patch) * (size[1] // patch)
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.position = nn.Parameter(torch.randn(1, count, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.encoder(x)).mean(dim=1))


def build_model(info):
    return Patches(info.channels, (info.height, info.width), info.num_classes)
"""

FIT_TRAINING = """
import torch

MAX_EPOCHS = 30


def train(model, loaders, info, log):
    loaders = loaders.with_batch_size(64)
    epochs = min(MAX_EPOCHS, info.epochs)
    optimizer = torch.optim.SGD(split_decay(model, 5e-4), lr=0.1, momentum=0.9, nesterov=True)
    schedule = warmup_linear(optimizer, epochs * len(loaders.train))
    return fit(model, loaders.train, loaders, info, log, epochs=epochs, optimizer=optimizer, schedule=schedule, clip=5.0)
"""

OWN_TRAINING = """
import torch
from torch import nn


def accuracy(model, loader, info):
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in loader:
            images, labels = images.to(info.device), labels.to(info.device)
            correct += (model(images).argmax(dim=1) == labels).sum().item()
            total += labels.size(0)
    return correct / max(total, 1)


def train(model, loaders, info, log):
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=info.epochs)
    best = 0.0
    for epoch in range(1, info.epochs + 1):
        model.train()
        running = 0.0
        for images, targets in loaders.train:
            images, targets = images.to(info.device), targets.to(info.device)
            optimizer.zero_grad()
            loss = criterion(model(images), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=5.0)
            optimizer.step()
            running += loss.item()
        scheduler.step()
        score = accuracy(model, loaders.validation, info)
        if score >= best:
            best = score
            log.keep(model)
        log(epoch, train_loss=running / max(1, len(loaders.train)), validation_accuracy=score)
    return model
"""

EMA_TRAINING = """
import math

import torch
import torch.nn.functional as F


def train(model, loaders, info, log):
    optimizer = torch.optim.AdamW(split_decay(model, 0.02), lr=2e-3, betas=(0.9, 0.98))
    averaged = EMA(model, decay=0.99)
    total = max(1, info.epochs * len(loaders.train))
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=total + 1)
    for epoch in range(1, info.epochs + 1):
        model.train()
        losses = []
        for images, targets in loaders.train:
            with autocast(info):
                logits = model(place(images, info))
            loss = soft_cross_entropy(logits, targets, smoothing=0.05)
            if not math.isfinite(loss.item()):
                raise NonFiniteLoss(f"loss {loss.item()} in epoch {epoch}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            averaged.update(model)
            losses.append(loss.detach())
        scores = evaluate(averaged.model, loaders.validation, info)
        log.keep(averaged.model)
        log(epoch, train_loss=torch.stack(losses).mean().item(), **scores)
    return averaged.model
"""

WEIGHTED_TRAINING = """
import torch


def train(model, loaders, info, log):
    balanced = loaders.with_balanced_classes().with_batch_size(48)
    groups = layerwise_decay(model, lr=2e-3, decay=0.9, weight_decay=0.01)
    optimizer = torch.optim.AdamW(groups)
    weight = class_weights(info)

    def loss(logits, targets):
        return soft_cross_entropy(logits, targets, weight=weight)

    try:
        import bitsandbytes  # an optional extra that is not here
    except ImportError:
        bitsandbytes = None
    epochs = max(1, info.epochs // 2)
    schedule = warmup_cosine(optimizer, steps=epochs * len(balanced.everything), warmup=0.2)
    return fit(
        model, balanced.everything, loaders, info, log, epochs=epochs, optimizer=optimizer, schedule=schedule,
        loss=loss, ema=EMA(model), keep="best",
    )
"""

GOOD: dict[str, Pipeline] = {
    "plain": Pipeline(data=PLAIN_DATA, model=CONV_MODEL, training=FIT_TRAINING),
    "own-loop": Pipeline(data=PLAIN_DATA, model=RESIDUAL_MODEL, training=OWN_TRAINING),
    "per-image": Pipeline(data=PER_IMAGE_DATA, model=CONV_MODEL, training=OWN_TRAINING),
    "mixing": Pipeline(data=MIXED_DATA, model=RESIDUAL_MODEL, training=EMA_TRAINING),
    "own-mixup": Pipeline(data=OWN_MIXUP_DATA, model=CONV_MODEL, training=EMA_TRAINING),
    "timm": Pipeline(data=MIXED_DATA, model=TIMM_MODEL, training=WEIGHTED_TRAINING),
    "torchvision": Pipeline(data=PLAIN_DATA, model=TORCHVISION_MODEL, training=FIT_TRAINING),
    "attention": Pipeline(data=PER_IMAGE_DATA, model=ATTENTION_MODEL, training=EMA_TRAINING),
}
