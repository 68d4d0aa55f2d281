"""A component that defines a name of the script's, or of another component, gets a name of its own, and means the same."""

import ast

import pytest

from sandbox.contract import contract_fault
from sandbox.renaming import without_clashes
from schema.pipeline import Component
from tests.scripted import PIPELINE, TRAINING

OTHERS = {component: PIPELINE.code(component) for component in ("data", "model", "training")}

# What an engineer writes, and what becomes of it.
CASES = {
    "a class of the toolbox": (
        "class EMA:\n    pass\n\n\ndef train(model, loaders, info, log):\n    return EMA()",
        "class EMA_training:\n    pass\n\n\ndef train(model, loaders, info, log):\n    return EMA_training()",
    ),
    "an import": (
        "from torch.amp import GradScaler, autocast\n\n\ndef train(m, l, i, log):\n    with autocast('cpu'):\n        return m",
        "from torch.amp import GradScaler, autocast as autocast_training\n\n\ndef train(m, l, i, log):\n"
        "    with autocast_training('cpu'):\n        return m",
    ),
    "an import under another name": (
        "from torch.amp import autocast as evaluate\nx = evaluate",
        "from torch.amp import autocast as evaluate_training\nx = evaluate_training",
    ),
    "with decorators, and used as one": (
        "import functools\n\n\n@functools.cache\ndef mixup(a):\n    return a\n\n\n@mixup\ndef f(b=mixup):\n    return b",
        "import functools\n\n\n@functools.cache\ndef mixup_training(a):\n    return a\n\n\n@mixup_training\ndef f(b=mixup_training):\n    return b",
    ),
    "parameters and keywords are others": (
        "def mixup(a):\n    return a\n\n\ndef g(mixup=0.2):\n    return mixup\n\n\nx = g(mixup=mixup(1))",
        "def mixup_training(a):\n    return a\n\n\ndef g(mixup=0.2):\n    return mixup\n\n\nx = g(mixup=mixup_training(1))",
    ),
    "what a function binds is its own": (
        "def fit(a):\n    return a\n\n\ndef g():\n    fit = 3\n    return [fit for _ in range(fit)]\n\n\ndef h():\n    return [fit for _ in ()]",
        "def fit_training(a):\n    return a\n\n\ndef g():\n    fit = 3\n    return [fit for _ in range(fit)]\n\n\ndef h():\n    return [fit_training for _ in ()]",
    ),
    "attributes are others": (
        "def evaluate(a):\n    return a.evaluate(evaluate)",
        "def evaluate_training(a):\n    return a.evaluate(evaluate_training)",
    ),
    "a global of the component's": (
        "DEFAULTS = 1\n\n\ndef f():\n    global DEFAULTS\n    DEFAULTS = 2",
        "DEFAULTS_training = 1\n\n\ndef f():\n    global DEFAULTS_training\n    DEFAULTS_training = 2",
    ),
    "after letters of more than one byte": (
        "def mixup(ä):\n    return ä\n\n\ny = ('é', mixup)",
        "def mixup_training(ä):\n    return ä\n\n\ny = ('é', mixup_training)",
    ),
    "a name in a method, but not a method": (
        "class EMA:\n    def EMA(self):\n        return EMA",
        "class EMA_training:\n    def EMA(self):\n        return EMA_training",
    ),
}


@pytest.mark.parametrize(("code", "expected"), CASES.values(), ids=CASES)
def test_it_gets_a_name_of_its_own_wherever_it_is_meant(code: str, expected: str) -> None:
    assert without_clashes("training", code, {}) == expected
    ast.parse(expected)


def test_nothing_is_changed_where_nothing_clashes() -> None:
    for component, code in OTHERS.items():
        assert without_clashes(component, code, OTHERS) == code


@pytest.mark.parametrize("component", ["data", "model", "training"])
def test_a_name_of_another_component_is_free_for_it(component: Component) -> None:
    helper = "\n\ndef helper(x):\n    return x\n\n\nsomething = helper(1)\n"
    others = {one: code + helper for one, code in OTHERS.items() if one != component}
    code = without_clashes(component, OTHERS[component] + helper, others)
    assert f"def helper_{component}(x)" in code
    assert f"something_{component} = helper_{component}(1)" in code


def test_the_name_that_it_gets_is_free() -> None:
    code = "def mixup():\n    pass\n\n\nmixup_training = 1"
    assert "def mixup_training_2():" in without_clashes("training", code, {})


def test_the_function_that_a_component_is_called_by_keeps_its_name() -> None:
    assert "def train(" in without_clashes("training", TRAINING, {"model": OTHERS["model"] + "\ntrain = 3\n"})


def test_what_is_no_python_is_left_to_the_checks() -> None:
    assert without_clashes("training", "def (:", OTHERS) == "def (:"


def test_a_component_with_a_clash_passes_the_checks_once_it_is_renamed() -> None:
    code = "class EMA:\n    pass\n\n\n" + TRAINING
    assert contract_fault(PIPELINE.with_code("training", code)) is not None
    assert contract_fault(PIPELINE.with_code("training", without_clashes("training", code, OTHERS))) is None
