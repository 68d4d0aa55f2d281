"""ruff and ty over the assembled script: certain mistakes only, in the component that made them, with the way out."""

import ast

import pytest

from benchmarks.mistakes.good import GOOD
from dataset.decode import SOURCE
from sandbox.assemble import assemble, sections
from sandbox.check import check, signatures
from sandbox.findings import from_ruff, from_ty, module_names
from schema.pipeline import Component, Fault, Pipeline


def checked(pipeline: Pipeline) -> Fault | None:
    return check(pipeline, assemble(pipeline, SOURCE, title="test"))


@pytest.mark.parametrize("name", GOOD)
def test_good_pipeline_raises_no_alarm(name: str) -> None:
    assert checked(GOOD[name]) is None


@pytest.mark.parametrize(
    ("base", "component", "before", "after", "says"),
    [
        ("plain", "data", "random_translate(", "random_shift(", "Undefined name `random_shift`. Did you mean random_flip"),
        ("per-image", "data", "import torch\n", "import albumentations\nimport torch\n", "It is not installed here; torch"),
        ("per-image", "data", "v2.RandomErasing(p=0.0)", "v2.RandomCutout(2)", "Close to it there: "),
        ("own-loop", "training", "label_smoothing=", "smoothing=", "label_smoothing=0.0"),
        ("own-loop", "training", "optimizer.zero_grad()", "optimizer.zero_gradd()", "`zero_gradd`"),
        ("own-loop", "training", "loaders.validation", "loaders.val", "Did you mean validation"),
        ("mixing", "training", "EMA(model, decay=0.99)", "EMA(model, beta=0.99)", "(model, decay=0.999)"),
        ("plain", "model", "info.num_classes)", "info.n_classes)", "Did you mean num_classes"),
        ("own-mixup", "data", "float(np.r", "np.float(np.r", "`float`"),
    ],
)  # fmt: skip
def test_mistake_is_told_with_its_line_and_the_way_out(
    base: str, component: Component, before: str, after: str, says: str
) -> None:
    good = GOOD[base]
    code = good.code(component).replace(before, after, 1)
    line = code[: code.index(after)].count("\n") + 1
    fault = checked(good.with_code(component, code))
    assert fault is not None
    assert (fault.stage, fault.component, fault.line, says in fault.message) == ("contract", component, line, True), (
        fault
    )
    assert f"line {line}: " in fault.excerpt


def test_further_mistakes_of_the_component_are_told_too() -> None:
    good = GOOD["own-loop"]
    code = good.training.replace("label_smoothing=", "smoothing=").replace("weight_decay=", "decay=")
    fault = checked(good.with_code("training", code))
    assert fault is not None
    assert "smoothing" in fault.message
    assert "`decay`" in fault.excerpt


def test_fault_is_short_and_names_no_path() -> None:
    good = GOOD["own-loop"]
    fault = checked(good.with_code("training", good.training.replace("label_smoothing=", "smoothing=")))
    assert fault is not None
    text = f"{fault.message}{fault.excerpt}"
    assert len(text) < 2000
    assert "site-packages" not in text
    assert "\x1b" not in text


def test_import_that_is_tried_may_fail() -> None:
    good = GOOD["plain"]
    code = good.data.replace(
        "\ndef b", "\ntry:\n    import kornia\nexcept ImportError:\n    kornia = None\n\n\ndef b", 1
    )
    assert checked(good.with_code("data", code)) is None


@pytest.mark.parametrize(
    "line",
    [
        "model.backbone = model.fc = model.head",  # an nn.Module holds anything
        "resample = Image.BICUBIC",  # PIL sets it when it is imported
        "extra = torch.npu if hasattr(torch, 'npu') else None",
    ],
)
def test_what_a_type_checker_cannot_know_is_no_fault(line: str) -> None:
    good = GOOD["plain"]
    code = good.training.replace("import torch\n", "import torch\nfrom PIL import Image\n").replace(
        "    epochs =", f"    {line}\n    epochs ="
    )
    assert checked(good.with_code("training", code)) is None


def test_unreadable_answers_of_the_tools_are_no_findings() -> None:
    assert from_ruff("thread panicked") == []
    assert from_ty("thread panicked", "x = 1") == []


def test_names_of_a_module_are_read_without_importing_it() -> None:
    assert "RandomCrop" in module_names("torchvision.transforms.v2")
    assert module_names("no.such.module") == ()


@pytest.mark.parametrize("name", GOOD)
def test_what_ty_reads_has_the_components_on_their_lines(name: str) -> None:
    script = assemble(GOOD[name], SOURCE, title="test")
    read = signatures(script)
    before, after = script.split("\n"), read.split("\n")
    assert len(after) == len(before)
    for rows in sections(script).values():
        assert [after[row - 1] for row in rows] == [before[row - 1] for row in rows]
    assert "def evaluate(" in read
    ast.parse(read)
