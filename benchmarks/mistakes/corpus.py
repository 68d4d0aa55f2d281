"""Each mistake is one edit of a component that is right: what was there, and what a model writes instead."""

from typing import NamedTuple

from benchmarks.mistakes.good import GOOD
from schema.pipeline import Component, Pipeline


class Mistake(NamedTuple):
    kind: str
    name: str
    base: str  # a pipeline of good.py
    component: Component  # the one at fault
    before: str
    after: str
    error: bool = True  # False: it runs, and must merely lose

    @property
    def pipeline(self) -> Pipeline:
        good = GOOD[self.base]
        code = good.code(self.component)
        if self.before not in code:
            raise ValueError(f"{self.name}: {self.before!r} is not in the {self.component} component of {self.base}")
        return good.with_code(self.component, code.replace(self.before, self.after, 1))


HEAD = "return self.head(self.dropout(x))"
LOOP = "    for epoch in range(1, info.epochs + 1):\n        model.train()\n        running"

# A row reads as a line of a table (two where the edit is long); the formatter would make a paragraph of each.
# fmt: off
MISTAKES = (
    # What a linter and a type checker see
    Mistake("syntax", "missing colon", "plain", "model", "def forward(self, x):", "def forward(self, x)"),
    Mistake("syntax", "Markdown fence", "plain", "data", "\ndef build_transforms", "```python\ndef build_transforms"),
    Mistake("undefined name", "misspelt variable", "own-loop", "training", "loss.backward()", "losss.backward()"),
    Mistake("undefined name", "import forgotten", "torchvision", "model", "import torchvision\n", ""),
    Mistake("undefined name", "toolbox function that is not there", "plain", "data", "random_translate(images, 1)", "random_shift(images, 1)"),
    Mistake("undefined name", "global of a notebook", "plain", "model", "Net(info.channels, info.num_classes)", "Net(info.channels, NUM_CLASSES)"),
    Mistake("wrong package", "package not installed", "per-image", "data", "import torch\n", "import albumentations as A\nimport torch\n"),
    Mistake("wrong package", "module that never was", "plain", "model",
            "from torch import nn\n", "from torch import nn\nfrom torch.nn.layers import DropPath\n"),
    Mistake("wrong package", "imports the toolbox", "plain", "training", "import torch\n", "import torch\nfrom toolbox import fit\n"),
    Mistake("wrong package", "module called as a function", "own-loop", "training",
            "import torch\n", "import time as clock\n\nimport torch\n\nSTART = clock()\n"),
    Mistake("removed API", "v2.RandomCutout", "per-image", "data", "v2.RandomErasing(p=0.0)", "v2.RandomCutout(2)"),
    Mistake("removed API", "torch.optim.Lion", "own-loop", "training", "torch.optim.AdamW(", "torch.optim.Lion("),
    Mistake("removed API", "from torch.optim import Lookahead", "own-loop", "training",
            "from torch import nn\n", "from torch import nn\nfrom torch.optim import Lookahead\n"),
    Mistake("removed API", "np.float", "own-mixup", "data", "float(np.random.beta(0.2, 0.2))", "np.float(np.random.beta(0.2, 0.2))"),
    Mistake("wrong argument", "CrossEntropyLoss(smoothing=)", "own-loop", "training", "label_smoothing=0.1", "smoothing=0.1"),
    Mistake("wrong argument", "AdamW(decay=)", "own-loop", "training", "weight_decay=0.05", "decay=0.05"),
    Mistake("wrong argument", "toolbox: cutmix without alpha", "mixing", "data", "info.num_classes, alpha=1.0)", "info.num_classes)"),
    Mistake("wrong argument", "toolbox: EMA(model, beta=)", "mixing", "training", "EMA(model, decay=0.99)", "EMA(model, beta=0.99)"),
    Mistake("wrong argument", "scheduler(verbose=)", "own-loop", "training", "T_max=info.epochs)", "T_max=info.epochs, verbose=True)"),
    Mistake("wrong argument", "timm keyword", "timm", "model", "in_chans=info.channels", "in_channels=info.channels"),
    Mistake("wrong argument", "Conv2d(pad=)", "own-loop", "model",
            "self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)", "self.stem = nn.Conv2d(channels, width, 3, pad=1, bias=False)"),
    Mistake("wrong attribute", "info.n_classes", "plain", "model", "info.num_classes)", "info.n_classes)"),
    Mistake("wrong attribute", "loaders.val", "own-loop", "training", "loaders.validation", "loaders.val"),
    Mistake("wrong attribute", "info.image_size", "attention", "model", "(info.height, info.width)", "info.image_size"),
    Mistake("wrong attribute", "optimizer.zero_gradd", "own-loop", "training", "optimizer.zero_grad()", "optimizer.zero_gradd()"),
    Mistake("wrong attribute", "log.save", "own-loop", "training", "log.keep(model)", "log.save(model)"),
    # What the contract sees
    Mistake("missing return", "build_model", "timm", "model", "    return model", "    model.eval()"),
    Mistake("missing return", "train", "own-loop", "training", "    return model", "    print(best)"),
    Mistake("missing return", "forward", "plain", "model", HEAD, "self.head(self.dropout(x))"),
    Mistake("missing return", "only in a branch", "torchvision", "model", "    return net", "    if info.num_classes > 100:\n        return net"),
    Mistake("wrong signature", "build_model(num_classes, channels)", "plain", "model",
            "def build_model(info):\n    return Net(info.channels, info.num_classes)", "def build_model(channels, num_classes):\n    return Net(channels, num_classes)"),
    Mistake("wrong signature", "train(model, loaders)", "own-loop", "training", "def train(model, loaders, info, log)", "def train(model, loaders)"),
    Mistake("wrong signature", "other function name", "plain", "data", "def build_transforms(info)", "def get_transforms(info)"),
    Mistake("work at import", "a main of its own", "own-loop", "training", "def train(", "if __name__ == '__main__':\n    print('training')\n\n\ndef train("),
    Mistake("work at import", "print when loaded", "plain", "model", "def build_model", "print(Net(1, 10))\n\n\ndef build_model"),
    Mistake("name clash", "F of torchvision over F of torch", "mixing", "data",
            "import torch\n", "import torch\nfrom torchvision.transforms import functional as F\n"),
    Mistake("name clash", "own evaluate", "own-loop", "training", "def accuracy(", "def evaluate(model):\n    return model.eval()\n\n\ndef accuracy("),
    Mistake("weights not on disk", "timm pretrained=True", "timm", "model", "pretrained=False", "pretrained=True"),
    Mistake("weights not on disk", "torchvision enum", "torchvision", "model", "weights=None", "weights=torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT"),
    Mistake("weights not on disk", "load_pretrained of another", "timm", "model", "    return model", "    return load_pretrained(model, info, 'resnet50')"),
    Mistake("weights not on disk", "model name in a variable", "timm", "model",
            'model = timm.create_model("test_resnet", pretrained=False', 'name, wanted = "test_resnet", 1 + 1 == 2\n    model = timm.create_model(name, pretrained=wanted'),
    Mistake("unknown model", "timm name that is not there", "timm", "model", '"test_resnet"', '"resnet18_small"'),
    # What only two real batches show
    Mistake("shape mismatch", "head of the wrong size", "plain", "model", "nn.Linear(64, num_classes)", "nn.Linear(512, num_classes)"),
    Mistake("shape mismatch", "three channels assumed", "own-loop", "model", "nn.Conv2d(channels, width", "nn.Conv2d(3, width"),
    Mistake("shape mismatch", "stride without shortcut", "own-loop", "model", "if stride != 1 or inputs != outputs:", "if False:"),
    Mistake("shape mismatch", "positions of another size", "attention", "model", "(size[0] // patch) * (size[1] // patch)", "49"),
    Mistake("shape mismatch", "batch axis lost", "plain", "data",
            "return normalize(random_translate(images, 1), info)", "return normalize(random_translate(images, 1), info)[0]"),
    Mistake("shape mismatch", "Normalize of three channels", "per-image", "data", "mean=info.mean, std=info.std", "mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]"),
    Mistake("shape mismatch", "eval of another size than train", "attention", "data",
            "evaluate = v2.Compose(finish)", "evaluate = v2.Compose([v2.Resize((12, 12)), *finish])"),
    Mistake("dtype mismatch", "uint8 left", "plain", "data", "return normalize(random_translate(images, 1), info)", "return random_translate(images, 1)"),
    Mistake("dtype mismatch", "model in double", "plain", "model",
            "return Net(info.channels, info.num_classes)", "return Net(info.channels, info.num_classes).double()"),
    Mistake("dtype mismatch", "float labels", "own-loop", "training", "criterion(model(images), targets)", "criterion(model(images), targets.float())"),
    Mistake("dtype mismatch", "one-hot over soft targets", "mixing", "training",
            "soft_cross_entropy(logits, targets, smoothing=0.05)", "soft_cross_entropy(logits, F.one_hot(targets, info.num_classes).float())"),
    Mistake("wrong classes", "1000 classes left", "torchvision", "model", "    net.fc = nn.Linear(net.fc.in_features, info.num_classes)\n", ""),
    Mistake("wrong classes", "one class too few", "plain", "model", "Net(info.channels, info.num_classes)", "Net(info.channels, info.num_classes - 1)"),
    Mistake("wrong classes", "mixing with another number", "mixing", "data",
            "mixup(images, labels, info.num_classes, ALPHA)", "mixup(images, labels, info.num_classes + 1, ALPHA)"),
    Mistake("wrong return", "tuple of logits and features", "plain", "model", HEAD, "return self.head(self.dropout(x)), x"),
    Mistake("wrong return", "dict instead of Transforms", "plain", "data",
            "return Transforms(train=train, eval=evaluate)", "return {'train': train, 'eval': evaluate}"),
    Mistake("wrong return", "history instead of the model", "own-loop", "training", "    return model", "    return {'best': best}"),
    Mistake("wrong value", "random eval transform", "plain", "data",
            "return normalize(images, info)\n\n    return", "return normalize(random_translate(images, 1), info)\n\n    return"),
    Mistake("device mismatch", "meta device", "plain", "model",
            "return Net(info.channels, info.num_classes)", "return Net(info.channels, info.num_classes).to('meta')"),
    Mistake("device mismatch", "cuda without asking", "own-loop", "training",
            "images.to(info.device), targets.to(info.device)\n            optimizer", "images.cuda(), targets.cuda()\n            optimizer"),
    Mistake("non-finite loss", "division by zero", "per-image", "data", "std=info.std", "std=[0.0]"),
    Mistake("non-finite loss", "log of zero", "own-loop", "training",
            "loss = criterion(model(images), targets)", "loss = -torch.log(torch.relu(-model(images).abs())).mean()"),
    Mistake("non-finite loss", "square root of a negative", "plain", "model", HEAD, "return torch.sqrt(-self.head(self.dropout(x)).abs() - 1)"),
    Mistake("non-finite loss", "learning rate of 1e30", "plain", "training", "lr=0.1,", "lr=1e30,"),
    Mistake("frozen", "everything frozen", "plain", "training", "    optimizer = torch", "    model.requires_grad_(False)\n    optimizer = torch"),
    Mistake("frozen", "no step of the optimiser", "own-loop", "training", "            optimizer.step()\n", ""),
    Mistake("scheduler", "stepped per batch but planned too short", "mixing", "training", "total_steps=total + 1", "total_steps=info.epochs"),
    Mistake("endless loop", "while True without an end", "own-loop", "training",
            LOOP, "    while True:\n        model.train()\n" + LOOP.split("\n", 1)[0].replace("range(1, info.epochs + 1)", "range(0)") + "\n        running"),
    Mistake("endless loop", "in the data component", "plain", "data",
            "        return normalize(random_translate(images, 1), info)", "        while len(images) > 0:\n            images = random_translate(images, 1)\n        return normalize(images, info)"),
    Mistake("memory blow-up", "hoards every batch", "own-loop", "training",
            "            running += loss.item()", "            running += loss.item()\n            hoard = [torch.ones(2**26) for _ in range(10**6)]"),
    Mistake("memory blow-up", "a layer for every pixel pair", "plain", "model",
            "nn.Linear(64, num_classes)", "nn.Sequential(nn.Linear(64, 2**25), nn.Linear(2**25, num_classes))"),
    Mistake("prints without end", "debug output in a loop", "own-loop", "training",
            "            running += loss.item()", "            while True:\n                print('batch', images.shape, loss.item(), '.' * 200)"),
    Mistake("writes outside", "a file in a folder that is not there", "own-loop", "training",
            "log.keep(model)", "torch.save(model.state_dict(), '/checkpoints/best.pt')"),
    Mistake("asks a person", "input()", "own-loop", "training", "    best = 0.0", "    best = float(input('target? '))"),
    Mistake("leaves by itself", "SystemExit after training", "own-loop", "training", "    return model", "    raise SystemExit(0)\n    return model"),
    Mistake("late", "a phase from the fourth epoch on", "own-loop", "training",
            "        scheduler.step()", "        scheduler.step()\n        if epoch >= 4:\n            optimizer.param_groups[1]['lr'] = 1e-4"),
    # Wrong, but running: they must lose
    Mistake("softmax twice", "softmax before cross-entropy", "own-loop", "model",
            "return self.fc(x.mean((2, 3)))", "return F.softmax(self.fc(x.mean((2, 3))), dim=1)", False),
    Mistake("eval forgotten", "the model stays in training mode", "per-image", "training", "    model.eval()\n", "", False),
    Mistake("learning rate", "a thousand times too small", "plain", "training", "lr=0.1,", "lr=0.0001,", False),
    Mistake("labels broken", "digits upside down", "plain", "data", "random_translate(images, 1)", "random_flip_vertical(random_flip(images))", False),
    Mistake("gradients kept", "zero_grad forgotten", "own-loop", "training", "            optimizer.zero_grad()\n", "", False),
    Mistake("augmentation", "nearly everything covered", "mixing", "data", "cutout(images, 3)", "cutout(cutout(images, 15), 15)", False),
    Mistake("writes outside", "a file beside the work folder", "own-loop", "training",
            "            log.keep(model)\n", "            log.keep(model)\n            open('../outside.txt', 'w').write('best')\n", False),
)
# fmt: on
