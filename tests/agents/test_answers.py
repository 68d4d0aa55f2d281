"""Usable answers in odd dresses are used; what cannot be used is told to its model in words that help."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.llm.answers import Unusable, code_of, components_of, judgement_of, prose_of, without_thoughts
from agents.llm.expert import keeps
from agents.llm.split import faces_in, split
from schema.pipeline import COMPONENTS, Component
from tests.agents.server import CODE, fenced, judgement, whole_pipeline

MODEL = CODE["model"].strip()
WHOLE = "\n\n".join(CODE[component] for component in COMPONENTS)
TWICE = f"A first try:\n\n{fenced(MODEL.replace('Flatten', 'Identity'))}\n\nBetter:\n\n{fenced(MODEL)}"


@pytest.mark.parametrize(
    "answer",
    [
        fenced(MODEL),
        f"Sure! Here it is.\n\n{fenced(MODEL)}\n\nI hope this helps.",
        MODEL,
        f"Here is the component:\n\n{MODEL}\n\nIt flattens the image first, and then it maps.",
        f"```py\n{MODEL}\n```",
        f"```\n{MODEL}\n```",
        f"~~~python\n{MODEL}\n~~~",
        f"````python title=model.py\n{MODEL}\n````",
        f"   ```python\n{MODEL}\n   ```",
        f"```python\r\n{MODEL}\n```".replace("\r\n", "\n"),
        f"```python\n{MODEL}",  # cut off in what followed
        f"<think>\n```python\ndef build_model(info): return 1\n```\n</think>\n{fenced(MODEL)}",
        f"the opening tag is gone, ```python\nx = 1\n```</think>{fenced(MODEL)}",
        TWICE,
        f"Install it:\n```bash\npip install timm\n```\n{fenced(MODEL)}\n```json\n{{}}\n```",
        f"{fenced(MODEL)}\n\nUse it so:\n\n{fenced('model = build_model(info)')}",
    ],
    ids=range(16),
)
def test_code_is_found_in_any_dress(answer: str) -> None:
    assert code_of(answer, "model").strip() == MODEL


@pytest.mark.parametrize(
    "answer",
    [fenced(WHOLE), whole_pipeline(), "\n".join(fenced(CODE[c]) for c in reversed(COMPONENTS))],
    ids=["one block", "three blocks", "in another order"],
)
def test_of_a_whole_pipeline_each_gets_its_own(answer: str) -> None:
    parts = components_of(answer)
    assert list(parts) == list(COMPONENTS)
    for component in COMPONENTS:
        assert faces_in(parts[component]) == [component]
        assert faces_in(code_of(answer, component)) == [component]


def test_code_that_comes_in_pieces_is_put_together() -> None:
    imports, rest = "from torch import nn", MODEL.split("\n", 1)[1]
    assert "from torch import nn" in code_of(f"First:\n{fenced(imports)}\nThen:\n{fenced(rest)}", "model") + imports
    helper = "WIDTH = 8\n\n\ndef block(n):\n    return n * WIDTH"
    main = "def build_model(info):\n    return block(info.num_classes)"
    found = code_of(f"{fenced(main)}", "model")
    assert faces_in(found) == ["model"]
    parts = components_of(fenced(f"{helper}\n\n\n{main}\n\n\n{CODE['training']}"))
    assert "WIDTH = 8" in parts["model"]
    assert "WIDTH" not in parts["training"]


def test_what_two_components_use_is_there_once() -> None:
    shared = "import torch\n\nRATE = 0.1\n\n\ndef build_model(info):\n    return torch.nn.Linear(int(RATE * 10), 2)\n\n\ndef train(model, loaders, info, log):\n    torch.manual_seed(int(RATE))\n    return model\n"
    parts = split(shared)
    assert parts["model"].count("RATE = 0.1") == 1
    assert "RATE = 0.1" not in parts["training"]
    assert parts["model"].count("import torch") == parts["training"].count("import torch") == 1


def test_decorators_and_comments_stay_with_what_they_belong_to() -> None:
    source = "import torch\nfrom dataclasses import dataclass\n\n\n# how wide\n@dataclass\nclass Size:\n    n: int = 3\n\n\ndef build_model(info):\n    return torch.nn.Linear(Size().n, 2)\n\n\ndef train(model, loaders, info, log):\n    return model\n\n\nif __name__ == '__main__':\n    print('example')\n"
    model = split(source)["model"]
    assert "# how wide\n@dataclass\nclass Size" in model
    assert "__main__" not in "".join(split(source).values())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "The answer was empty"),
        ("<think>How do I do this? I could", "The answer was empty"),
        ("I'm sorry, I can't help with that.", "held no block of code"),
        (fenced(CODE["data"]), "defines `build_transforms`, which is another engineer's"),
        (fenced("def build_model(info:\n    return 1"), "is no Python"),
        (fenced("x = 1"), "does not define `build_model`"),
        (fenced(MODEL[:-20]), "is no Python"),
    ],
)
def test_what_cannot_be_used_says_what_was_expected(answer: str, said: str) -> None:
    with pytest.raises(Unusable, match=said) as caught:
        code_of(answer, "model")
    assert "Expected: the whole model component, which defines `build_model`, in one ```python block." in str(
        caught.value
    )


@pytest.mark.parametrize(
    "answer",
    [
        judgement(),
        f"My judgement follows.\n\n```json\n{judgement()}\n```\nThat is all {{really}}.",
        f"<think>{judgement(component='data')}</think>{judgement()}",
        f"First I thought {judgement(component='data')} but then {judgement()}",
        judgement().replace(', "revisit": null}', ', "revisit": null,}'),
        judgement().replace("null", "None").replace("false", "False").replace('"', "'"),
        judgement(diagnosis="two\nlines").replace("\\n", "\n"),
    ],
    ids=["plain", "fenced in prose", "after a thought", "the last one", "comma at the end", "as Python", "line breaks"],
)
def test_a_judgement_is_found_in_any_dress(answer: str) -> None:
    assert judgement_of(answer, "action")["component"] == "training"


@pytest.mark.parametrize("answer", ["", "no", "{}", '{"other": 1}', "{" * 5000, "[" * 5000 + "{", judgement()[:-40]])
def test_an_answer_without_a_judgement_is_told(answer: str) -> None:
    with pytest.raises(Unusable, match="Expected: one JSON object"):
        judgement_of(answer, "action")


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    for component in COMPONENTS:
        try:
            ast.parse(code_of(text, component))
        except Unusable:
            continue
    prose_of(text)
    without_thoughts(text)


@given(st.permutations(COMPONENTS), st.text(alphabet="abc \n`~{}<>#'\"", max_size=40))
def test_whatever_stands_between_the_blocks_the_components_are_found(order: list[Component], between: str) -> None:
    clean = between.replace("```", "").replace("~~~", "").replace("<", "")
    answer = f"\n{clean}\n".join(f"\n{fenced(CODE[component])}\n" for component in order)
    assert set(components_of(answer)) == set(COMPONENTS)


def test_prose_is_what_is_left_without_code_and_thoughts() -> None:
    assert prose_of(f"<think>hm</think>A plan.\n\n{fenced(MODEL)}\n\nDone.") == "A plan.\n\nDone."


@pytest.mark.parametrize(
    "answer",
    ["KEEP", "keep.", "**KEEP**", "KEEP: it fits.", "<think>Change it?</think>KEEP", "I would KEEP it as it is."],
)
def test_an_engineer_may_keep_what_is_there(answer: str) -> None:
    assert keeps(answer)


@pytest.mark.parametrize(
    "answer", [f"KEEP most of it:\n{fenced(MODEL)}", "It will keep failing unless the size is changed.", ""]
)
def test_what_is_not_kept(answer: str) -> None:
    assert not keeps(answer)
