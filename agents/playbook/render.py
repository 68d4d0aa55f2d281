"""From a recipe to the source of a component: plain code that a person would write, with only the parts that the recipe uses."""

from collections.abc import Callable

from agents.playbook.recipe import NAMES, Recipe
from schema.pipeline import Component


def render(component: Component, recipe: Recipe) -> str:
    writers: dict[Component, Callable[[Recipe], str]] = {"data": _data, "model": _model, "training": _training}
    head = f"# What this component does; the code below follows from it.\n{NAMES[component]} = {recipe!r}\n\n\n"
    return head + writers[component](recipe)


def _data(r: Recipe) -> str:
    size = r["size"]
    resize = [f"    images = resize_batch(images, {size[0]}, {size[1]})"] if size else []
    target = f"{size[0]}, {size[1]}" if size else "images.shape[-2], images.shape[-1]"
    crop = [f"    images = random_resized_crop(images, {target}, scale=({r['crop']}, 1.0))"] if r["crop"] else []
    steps = [
        *(crop or resize),
        *(["    images = random_flip(images)"] if r["flip"] else []),
        *(["    images = random_flip_vertical(images)"] if r["vertical"] else []),
        *(["    images = random_transpose(images)"] if r["transpose"] else []),
        *([f"    images = random_translate(images, {r['translate']})"] if r["translate"] else []),
        *(
            [f"    images = random_rotate_and_zoom(images, {r['rotate']}, {r['zoom']})"]
            if r["rotate"] or r["zoom"]
            else []
        ),
        *(
            [
                f"    images = trivial_augment(images, moves={r['trivial'] != 'colours'}, colours={r['trivial'] != 'moves'})"
            ]
            if r.get("trivial")
            else []
        ),
        *([f"    images = color_jitter(images, {r['jitter']}, {r['jitter']}, {r['jitter']})"] if r["jitter"] else []),
        *([f"    images = cutout(images, {r['cutout']})"] if r["cutout"] else []),
    ]
    own = r["stats"] == "data"
    finish = "normalize(images, info)" if own else "standardize(images, mean, std)"
    statistics = [] if own else [f"    mean, std = pretrained_statistics({r['stats']!r})", ""]
    mix = _mixing(r)
    views = (
        "[identity_view, "
        + ", ".join(
            {
                "flip": "flip_view",
                "vertical": "vertical_flip_view",
                "shift": "shift_view(1, 0), shift_view(0, 1), shift_view(-1, 0), shift_view(0, -1)",
            }[v]
            for v in r["views"]
        )
        + "]"
    )
    lines = [
        "def build_transforms(info):",
        '    """Augmentation draws once per image; evaluation has no randomness."""',
        "",
        *statistics,
        "    def train(images):",
        *(f"    {line}" for line in steps),
        f"        return {finish}",
        "",
        "    def evaluate(images):",
        *(f"    {line}" for line in resize),
        f"        return {finish}",
        "",
        *mix,
        f"    return Transforms(train=train, eval=evaluate{', batch=mix' if mix else ''}{f', views={views}' if r['views'] else ''})",
    ]
    return "\n".join(lines) + "\n"


def _mixing(r: Recipe) -> list[str]:
    if not (r["mixup"] or r["cutmix"]):
        return []
    if r["mixup"] and r["cutmix"]:
        body = [
            "        if torch.rand(()) < 0.5:",
            f"            return mixup(images, labels, info.num_classes, {r['mixup']})",
            f"        return cutmix(images, labels, info.num_classes, {r['cutmix']})",
        ]
    else:
        name = "mixup" if r["mixup"] else "cutmix"
        body = [f"        return {name}(images, labels, info.num_classes, {r[name]})"]
    return ["    def mix(images, labels):", *body, ""]


CONVNET = '''class Stage(nn.Module):
    """Convolutions at one resolution: the first one changes the width and (with pooling) halves the resolution, the others add to it."""

    def __init__(self, inputs, outputs, depth, pool):
        super().__init__()
        self.enter = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(outputs)
        self.more = nn.ModuleList(
            nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.GELU())
            for _ in range(depth - 1)
        )
        for conv in [self.enter, *(block[0] for block in self.more)]:
            nn.init.dirac_(conv.weight[: min(inputs, outputs)])  # channels pass through unchanged at first
{squeeze_init}
    def forward(self, x):
        x = nn.functional.gelu(self.norm(self.pool(self.enter(x))))
        for block in self.more:
            x = x + block(x)
{squeeze_forward}        return x


class ConvNet(nn.Module):
    """A small residual network that pools until about 4 x 4 cells are left; narrow where the resolution is high."""

    def __init__(self, channels, classes, size, width, depth, dropout):
        super().__init__()
        pools = max(0, min(size).bit_length() - 3)
        stride = 2 if pools > 3 else 1
        pools -= pools > 3
        widths = [24, width, 4 * width, 4 * width, 8 * width]
        stages = min(4, max(2, pools))
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], 2, stride=stride), nn.GELU())
        self.stages = nn.Sequential(*(Stage(widths[i], widths[i + 1], depth, i < pools) for i in range(stages)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[stages], classes, bias=False)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(self.dropout({pooling})){scale}


def build_model(info):
    size = {size}
    return ConvNet(info.channels, info.num_classes, size, width={width}, depth={depth}, dropout={dropout})
'''
SQUEEZE_INIT = "        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(outputs, outputs // 4, 1), nn.GELU(), nn.Conv2d(outputs // 4, outputs, 1), nn.Sigmoid())\n"


def _model(r: Recipe) -> str:
    if r["family"] == "timm":
        return _timm(r)
    text = CONVNET.replace("{squeeze_init}\n", SQUEEZE_INIT + "\n" if r["squeeze"] else "\n")
    text = text.replace("{squeeze_forward}", "        x = x * self.gate(x)\n" if r["squeeze"] else "")
    pooled = {"max": "x.amax((2, 3))", "mean": "x.mean((2, 3))", "both": "(x.amax((2, 3)) + x.mean((2, 3)))"}[
        r["pooling"]
    ]
    for key, value in {
        "pooling": pooled,
        "scale": "" if r["pooling"] == "mean" else " / 9  # maxima are large: smaller logits for a calm start",
        "size": "(info.height, info.width)",
        "width": r["width"],
        "depth": r["depth"],
        "dropout": r["dropout"],
    }.items():
        text = text.replace("{" + key + "}", str(value))
    return "from torch import nn\n\n\n" + text


def _timm(r: Recipe) -> str:
    options = f", pad_type={r['pad_type']!r}" if r["pad_type"] else ""
    options += f", drop_rate={r['dropout']}" if r["dropout"] else ""
    options += f", img_size={tuple(r['size'])}" if r.get("size") else ""
    options += "" if r["pretrained"] else ", in_chans=info.channels"
    steps = [
        *([f"model = load_pretrained(model, info, {r['name']!r})"] if r["pretrained"] else []),
        *(["model = freeze_statistics(model)"] if r.get("statistics") == "kept" else []),
        f"return freeze_early(model, {r['freeze']})" if r["freeze"] else "return model",
    ]
    lines = [
        "import timm",
        "",
        "",
        "def build_model(info):",
        f"    model = timm.create_model({r['name']!r}, num_classes=info.num_classes{options})",
        *(f"    {step}" for step in steps),
    ]
    return "\n".join(lines) + "\n"


def _training(r: Recipe) -> str:
    groups = (
        f"layerwise_decay(model, lr={r['lr']}, decay={r['layer_decay']}, weight_decay={r['weight_decay']})"
        if r["layer_decay"]
        else f"split_decay(model, {r['weight_decay']})"
    )
    optimizer = (
        f"torch.optim.SGD({groups}, lr={r['lr']}, momentum=0.9, nesterov=True, fused=True)"
        if r["optimizer"] == "sgd"
        else f"torch.optim.AdamW({groups}, lr={r['lr']}, fused=True)"
    )
    batches = "everything" if r["everything"] else "train"
    balanced = ".with_balanced_classes()" if r["balanced"] else ""
    schedule = {"linear": "warmup_linear", "cosine": "warmup_cosine"}[r["schedule"]]
    loss = _loss(r)
    options = [f"epochs=epochs, optimizer=optimizer, schedule=schedule, keep={r['keep']!r}, loss=loss"]
    head = ["    fit_head(model, batches, info)"] if r["fit_head"] else []
    options += [f"clip={r['clip']}"] if r["clip"] else []
    options += [f"ema=EMA(model, {r['ema']})"] if r["ema"] else []
    lines = [
        "import torch",
        "",
        "",
        "def train(model, loaders, info, log):",
        f"    loaders = loaders.with_batch_size({r['batch']}){balanced}",
        f"    batches = loaders.{batches}",
        *head,
        f"    epochs = min({r['epochs']}, info.epochs)",
        f"    optimizer = {optimizer}",
        f"    schedule = {schedule}(optimizer, epochs * len(batches), warmup={r['warmup']})",
        *loss,
        f"    return fit(model, batches, loaders, info, log, {', '.join(options)})",
    ]
    return "\n".join(lines) + "\n"


def _loss(r: Recipe) -> list[str]:
    if r["loss"] == "focal":
        return ["", "    def loss(logits, targets):", "        return focal_loss(logits, targets, gamma=1.0)", ""]
    weight = ", weight=weight" if r["weighted"] else ""
    return [
        *(["    weight = class_weights(info)"] if r["weighted"] else []),
        "",
        "    def loss(logits, targets):",
        f"        return soft_cross_entropy(logits, targets, smoothing={r['smoothing']}{weight})",
        "",
    ]
