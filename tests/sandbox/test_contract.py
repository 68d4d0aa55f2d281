"""What each component must define, and what it may not: told before anything runs, in words that say how to mend it."""

import pytest

from benchmarks.mistakes.good import GOOD
from dataset.decode import SOURCE
from sandbox.assemble import assemble
from sandbox.check import check
from sandbox.contract import contract_fault
from sandbox.pretrained.broker import missing_in
from schema.pipeline import COMPONENTS, Component, Fault, Pipeline
from schema.pretrained import Pretrained
from tests.schema.test_source import DEEP

PLAIN = GOOD["plain"]


def fault_of(component: Component, before: str, after: str, base: Pipeline = PLAIN) -> Fault:
    code = base.code(component)
    assert before in code
    fault = contract_fault(base.with_code(component, code.replace(before, after, 1)))
    assert fault is not None
    assert fault.component == component
    return fault


@pytest.mark.parametrize("name", GOOD)
def test_good_pipelines_pass(name: str) -> None:
    assert contract_fault(GOOD[name]) is None


@pytest.mark.parametrize(
    ("component", "before", "after", "kind", "says"),
    [
        ("model", "def forward(self, x):", "def forward(self, x)", "SyntaxError", "line 18: def forward(self, x)"),
        ("data", "\ndef build", "```python\ndef build", "SyntaxError", "without Markdown fences"),
        ("training", "\ndef train", "return 3\ndef train", "SyntaxError", "'return' outside function"),
        ("model", "def build_model", "def make_model", "missing", "must define `def build_model(info)`"),
        ("training", "(model, loaders, info, log)", "(model, loaders)", "parameters", "takes (model, loaders)"),
        ("model", "def build_model(info)", "def build_model(info, width)", "parameters", "called as `build_model(info)`"),
        ("model", "    return Net(info", "    Net(info", "return", "never returns a value; it must return the model"),
        ("model", "def build_model", "print('hi')\ndef build_model", "import", "Put it into a function"),
        ("model", "def build_model", "if __name__ == '__main__':\n    pass\ndef build_model", "import", "its own main"),
        ("model", "from torch import nn", "from torch.nn import *", "import", "import them by name"),
        ("training", "import torch\n", "import torch\nfrom sandbox.script.toolbox import fit\n", "import", "remove this import"),
        ("training", "import torch\n", "import torch\nfrom augment import cutmix\n", "import", "remove this import"),
        ("training", "import torch\n", "import torch\nfrom .model import Net\n", "import", "remove this import"),
        ("training", "    epochs =", "    input('go?')\n    epochs =", "interactive", "waits for a person"),
        ("training", "import torch\n", "import torch\nfrom time import time\n", "clash", "`time` is already defined"),
        ("training", "MAX_EPOCHS = 30", "Net = 30\nMAX_EPOCHS = 30", "clash", "already defined by the model component"),
        ("data", "def build_tr", "def mixup(images):\n    return images\ndef build_tr", "clash", "choose another name"),
    ],
)  # fmt: skip
def test_breach_is_named(component: Component, before: str, after: str, kind: str, says: str) -> None:
    fault = fault_of(component, before, after)
    assert (fault.kind, says in fault.message) == (kind, True), fault


def test_line_is_counted_inside_the_component() -> None:
    assert (
        fault_of("model", "    return Net(info", "    Net(info").line
        == PLAIN.model.split("\n").index("def build_model(info):") + 1
    )


def test_very_long_component_is_refused() -> None:
    assert fault_of("model", "from torch", "#" * 70_000 + "\nfrom torch").kind == "SyntaxError"


def test_deeply_nested_component_is_a_fault_and_not_a_crash() -> None:
    assert fault_of("model", "from torch", "x = " + "(" * 20_000 + "\nfrom torch").stage == "parse"


@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("component", COMPONENTS)
def test_whatever_is_deep_is_a_fault_of_its_component_before_any_reader_meets_it(
    component: Component, deep: str
) -> None:
    """The checks, the script's assembly and the search for weights all go through the tree level by level."""
    pipeline = PLAIN.with_code(component, f"{PLAIN.code(component)}\n\ndef more(x, y):\n    return {deep}\n")
    fault = check(pipeline, assemble(pipeline, SOURCE, "test"))
    assert fault is not None
    assert (fault.stage, fault.component) == ("parse", component)
    assert "nested" in fault.message
    assert missing_in(pipeline, Pretrained()) == {}


def test_a_line_that_would_move_the_sections_of_the_script_is_refused() -> None:
    fault = fault_of("training", "import torch\n", "import torch\n# ===== data =====\n")
    assert (fault.kind, fault.line) == ("mark", PLAIN.training.split("\n").index("import torch") + 2)


def test_global_settings_may_stand_at_the_top() -> None:
    code = PLAIN.training.replace("import torch\n", "import torch\n\ntorch.set_float32_matmul_precision('high')\n")
    assert contract_fault(PLAIN.with_code("training", code)) is None


def test_same_import_written_two_ways_is_no_clash() -> None:
    code = PLAIN.model.replace("from torch import nn", "import torch.nn as nn")
    assert contract_fault(PLAIN.with_code("model", code)) is None


TIMM = GOOD["timm"]


def test_unknown_timm_model_comes_with_close_names() -> None:
    fault = fault_of("model", '"test_resnet"', '"resnet18_small"', TIMM)
    assert (fault.kind, "resnet18" in fault.message) == ("model", True)


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "tf_efficientnet_b0_ap", "hf_hub:someone/model"])
def test_tagged_retired_and_remote_names_are_known(name: str) -> None:
    code = TIMM.model.replace('"test_resnet"', repr(name))
    assert contract_fault(TIMM.with_code("model", code)) is None
