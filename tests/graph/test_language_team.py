"""A whole run with a real client, a real server and real trainings: what becomes of each kind of answer that a model can give."""

import json
import os
import re
import sqlite3
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from PIL import Image

from agents.llm import calls as calls_module
from agents.llm.prompts import example
from checkpoints.home import checkpoints_path, run_dir
from checkpoints.store import Store, open_store
from dataset.mosaic import COLUMNS, LINE, SIDE
from dataset.prepare import load_inner_images
from graph.build import build_graph
from graph.run import resume, run
from improve.costs import cost_model, costs_text
from nodes.services import Services
from schema.errors import RunStopped
from schema.events import Event, FaultFound, ModelAnswered, ModelWaits
from schema.pipeline import COMPONENTS, Pipeline
from schema.run import CallRow
from schema.settings import Settings
from schema.team import LedgerRow
from tests.agents.server import (
    CODE,
    KEY,
    Ask,
    Character,
    Reply,
    Server,
    but,
    dressed,
    fenced,
    good,
    judgement,
    moods,
    serving,
    variant,
    whole_pipeline,
)
from tests.scripted import image_folder

# What else a person has in the environment: no file of a run may hold any of it.
CANARIES = {
    name: f"canary-of-{name.lower()}"
    for name in ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN", "LANGSMITH_API_KEY", "AWS_SECRET_ACCESS_KEY")
}
BROKEN = fenced(CODE["training"].replace("torch.optim.SGD", "torch.optim.SDG_"))
CRASHES = fenced(CODE["training"].replace("lr=0.01", "lr=0.01, weight_decay='none'"))


def no_schema(ask: Ask) -> Reply | None:
    """A server that knows no response_format."""
    if "response_format" in ask.body:
        return Reply(status=400, error={"message": "response_format is not supported", "code": "unsupported"})
    return None


def repairing(reply: Reply, times: int) -> Character:
    """Writes and mends with the same mistake."""
    made = iter(range(times))
    return lambda ask: reply if ask.role == "training" and next(made, None) is not None else good(ask)


def whole_instead(ask: Ask) -> Reply:
    """The whole pipeline, with the other components changed."""
    return Reply(
        whole_pipeline().replace("info.num_classes)", "info.num_classes, bias=False)").replace("lr=0.01", "lr=0.02")
    )


def thinking(ask: Ask) -> Reply:
    reply = good(ask)
    return Reply(f'<think>Maybe {BROKEN} or {{"action": "stop"}}?</think>\n{reply.text}')


MOODS: dict[str, Character] = {
    "verbose": dressed("write", lambda text: f"Certainly! {'I will explain at length. ' * 200}\n\n{text}\n\nThat is why."),
    "several fences": dressed("write", lambda text: f"```bash\npip install x\n```\n{text}\n```python\nprint('an example')\n```"),
    "no fence": dressed("write", lambda text: text.replace("```python", "").replace("```", "")),
    "prose around JSON": dressed("analyse", lambda text: f"Looking at {{the}} curve, I propose:\n```json\n{text}\n```\nGood luck!"),
    "cut off": but("write", lambda ask: Reply(fenced(CODE["training"])[:120], finish="length")),
    "empty": but("write", lambda ask: Reply("")),
    "refusing": but("write", lambda ask: Reply(None, refusal="I cannot help with that.")),
    "thinking aloud": thinking,
    "wrong component": but("write", lambda ask: Reply(fenced(CODE["model"]))),
    "edits others": but("write", whole_instead),
    "same mistake three times": repairing(Reply(BROKEN), 3),
    "mends its mistake": repairing(Reply(CRASHES), 1),
    "invalid JSON": lambda ask: Reply("The training component should run longer!") if ask.role == "analyst" else good(ask),
    "tool calls": lambda ask: Reply(None, tool=json.loads(judgement(move="by-tool"))) if ask.role == "analyst" else good(ask),
    "rate limit": but("write", lambda ask: Reply("slow down", status=429, headers={"Retry-After": "0.3"})),
    "server error": but("write", lambda ask: Reply("oops", status=500 if ask.number == 1 else 408), times=2),
    "reset": but("write", lambda ask: Reply(fenced(variant("training", 7)), reset=True)),
    "hangs": but("write", lambda ask: Reply("late", seconds=6.0)),
    "counts nothing": lambda ask: Reply(good(ask).text, usage=False),
}  # fmt: skip
NUMBER = {name: number for number, name in enumerate(MOODS, start=1)}


class Played(NamedTuple):
    name: str
    store: Store
    ledger: dict[str, LedgerRow]
    calls: list[CallRow]
    events: list[Event]
    server: Server
    output: str

    def of(self, mood: str) -> list[CallRow]:
        return [call for call in self.calls if call.iteration == NUMBER[mood]]

    def waits(self) -> list[ModelWaits]:
        return [event for event in self.events if isinstance(event, ModelWaits)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    root = tmp_path_factory.mktemp("played")
    os.environ |= {"IMPROVE_HOME": str(root / "home"), "OPENAI_API_KEY": KEY, "IMPROVE_MODEL_TIMEOUT": "4", **CANARIES}
    calls_module._plainer.clear()
    play = moods({number: MOODS[name] for name, number in NUMBER.items()})
    events: list[Event] = []
    with serving(lambda ask: no_schema(ask) or play(ask)) as server:
        settings = Settings(
            dataset=str(
                image_folder(root / "photos", per_class=80, light=3)
            ),  # so faint that there are mistakes to be shown
            model="openai:played",
            base_url=server.url,
            iterations=len(MOODS),
            train_seconds=20,
            accept="better",
            max_seeds=1,
            device="cpu",
            show_images=True,
            until_budget=True,
        )
        name = run(settings, name="played", on_event=events.append)
    store = open_store()
    rows = {list(MOODS)[row.iteration - 1]: row for row in store.ledger(name) if row.iteration}
    for variable in ("OPENAI_API_KEY", *CANARIES):
        os.environ.pop(variable)
    os.environ.pop("IMPROVE_MODEL_TIMEOUT")
    return Played(name, store, rows, store.calls(name), events, server, str(root / "home"))


@pytest.mark.parametrize("mood", [name for name in MOODS if name != "same mistake three times"])
def test_one_odd_answer_loses_no_iteration(played: Played, mood: str) -> None:
    assert played.ledger[mood].verdict in {"accepted", "rejected"}


def test_the_same_mistake_three_times_is_a_failed_iteration_that_costs_no_training(played: Played) -> None:
    row = played.ledger["same mistake three times"]
    assert (row.verdict, row.attempts, row.training_seconds) == ("failed", 3, 0.0)
    faults = [
        event.fault.kind
        for event in played.events
        if isinstance(event, FaultFound) and event.iteration == row.iteration
    ]
    assert len(faults) == 3
    mended = [ask for ask in played.server.requests if ask.iteration == row.iteration and ask.turn == "repair"]
    assert "the same error again" in mended[-1].text
    assert "warmup_cosine" in mended[-1].text.split("complete example")[1]


def test_a_fault_goes_back_with_its_line_and_is_mended(played: Played) -> None:
    row = played.ledger["mends its mistake"]
    assert row.attempts == 2
    repair = next(ask for ask in played.server.requests if ask.iteration == row.iteration and ask.turn == "repair")
    assert "   1 | " in repair.text
    assert "The error, in line " in repair.text


@pytest.mark.parametrize(
    ("mood", "problem"),
    [
        ("cut off", "is no Python"),
        ("empty", "The answer was empty"),
        ("refusing", "The answer was empty"),
        ("wrong component", "is another engineer's"),
        ("invalid JSON", "held no JSON object"),
    ],
)
def test_an_unusable_answer_is_asked_for_once_more_and_counted(played: Played, mood: str, problem: str) -> None:
    unusable = [call.usage.problem for call in played.of(mood) if call.usage.problem]
    assert unusable
    assert problem in unusable[0]


def test_an_answer_that_was_cut_off_is_told_to_be_shorter(played: Played) -> None:
    again = next(a for a in played.server.requests if a.iteration == NUMBER["cut off"] and a.turn == "again")
    assert "cut off at the most tokens" in again.text


@pytest.mark.parametrize("mood", [name for name in MOODS if name != "invalid JSON"])
def test_only_the_component_that_was_named_changes(played: Played, mood: str) -> None:
    """Byte for byte, also where a model sends other components along."""
    row = played.ledger[mood]
    before, after = (played.store.pipeline(played.name, number) for number in (row.base or 0, row.iteration))
    assert (before.data, before.model) == (after.data, after.model)
    assert before.training != after.training


def test_prose_where_json_was_asked_for_becomes_the_instruction(played: Played) -> None:
    proposal = played.store.proposal(played.name, NUMBER["invalid JSON"])
    assert proposal is not None
    assert proposal.component == "training"
    assert "should run longer" in proposal.instruction


def test_arguments_of_a_tool_that_nobody_offered_are_read_as_the_answer(played: Played) -> None:
    assert played.ledger["tool calls"].move == "by-tool"


def test_what_was_waited_for_is_told_and_counted(played: Played) -> None:
    reasons = " ".join(event.reason for event in played.waits())
    for sign in ("429", "500", "408", "the connection failed", "no answer came in time"):
        assert sign in reasons
    assert next(event for event in played.waits() if "429" in event.reason).seconds >= 0.3
    attempts = {
        mood: max(call.usage.attempts for call in played.of(mood))
        for mood in ("rate limit", "server error", "reset", "hangs")
    }
    assert attempts == {"rate limit": 2, "server error": 3, "reset": 2, "hangs": 2}


def test_a_server_without_response_format_is_asked_in_words_after_two_refusals(played: Played) -> None:
    formats = [
        ask.body.get("response_format", {}).get("type") for ask in played.server.requests if ask.role == "analyst"
    ]
    assert formats[:3] == ["json_schema", "json_object", None]
    assert set(formats[3:]) == {None}


def test_every_call_is_a_row_with_its_numbers(played: Played) -> None:
    told = [event.usage for event in played.events if isinstance(event, ModelAnswered)]
    assert told == [call.usage for call in played.calls if call.node != "profile"]
    assert {call.usage.role for call in played.calls} == {
        "architect",
        "data",
        "model",
        "training",
        "analyst",
        "summariser",
    }
    counted = [call.usage for call in played.calls if not call.usage.estimated]
    assert all(usage.tokens_in > 0 and usage.tokens_cached == usage.tokens_in // 2 for usage in counted)
    assert any(usage.tokens_reasoning for usage in counted)
    assert {call.usage.estimated for call in played.of("counts nothing")} == {True}
    assert (
        sum(u.tokens_in + u.tokens_out for u in (c.usage for c in played.calls))
        == played.store.spent(played.name).tokens
    )
    assert played.store.spent(played.name).cost is None  # nobody knows what `played` costs


def test_the_analyst_alone_is_shown_mistakes_and_none_of_the_images_that_decide(played: Played) -> None:
    """One tile for each mistake that the text names, and each is an inner validation image."""
    asked = [ask for ask in played.server.requests if ask.turn != "greet"]
    shown = [ask for ask in asked if ask.pictures]
    assert shown
    assert {ask.role for ask in shown} == {"analyst"}
    assert [ask.iteration for ask in asked if ask.turn == "analyse" and "The picture shows" in ask.text] == [
        ask.iteration for ask in shown if ask.turn == "analyse"
    ]
    profile = played.store.run(played.name).profile
    assert profile is not None
    inner = load_inner_images(profile)
    for ask in shown:
        named = re.findall(r"(\d+): '(\w+)' taken for '(\w+)'", ask.text)
        picture = np.asarray(Image.open(BytesIO(ask.pictures[0])))
        columns = min(COLUMNS, len(named))
        assert picture.shape[1] == columns * (SIDE + 4)
        for number in range(len(named)):
            top, left = number // columns * (SIDE + LINE + 4) + LINE + 2, number % columns * (SIDE + 4) + 2
            tile = picture[top : top + SIDE, left : left + SIDE]
            middles = ((np.arange(inner.shape[-1]) + 0.5) * SIDE / inner.shape[-1]).astype(int)
            small = tile[np.ix_(middles, middles)].transpose(2, 0, 1)
            assert any(np.array_equal(small[: len(image)], image) for image in inner)


def test_no_request_streams_or_sets_a_temperature(played: Played) -> None:
    assert all(not ask.body.get("stream") and "temperature" not in ask.body for ask in played.server.requests)


def test_the_key_is_sent_and_nowhere_kept(played: Played) -> None:
    assert set(played.server.authorizations) == {f"Bearer {KEY}"}
    secrets = [secret.encode() for secret in (KEY, *CANARIES.values())]
    files = {path: path.read_bytes() for path in Path(played.output).rglob("*") if path.is_file()}
    found = [path for path, content in files.items() if any(secret in content for secret in secrets)]
    assert found == []
    with sqlite3.connect(Path(played.output) / "checkpoints.sqlite") as database:
        kept = database.execute(
            "SELECT count(*) FROM checkpoints WHERE instr(checkpoint, ?) > 0", (KEY.encode(),)
        ).fetchone()
    assert kept == (0,)


def test_the_costs_of_the_run_can_be_read(played: Played) -> None:
    found = cost_model(played.store.run(played.name), played.store.ledger(played.name), played.calls)
    assert found.c0 == sum(c.usage.tokens_in + c.usage.tokens_out for c in played.calls if c.iteration == 0)
    assert found.c1 is not None
    assert found.c1 > 0
    assert found.steps_ratio is not None
    assert 1 / 3 < found.steps_ratio < 1
    text = costs_text(found)
    assert "analyst" in text
    assert "Lemma 3.2" in text


def start(root: Path, server: Server, **own: object) -> Settings:
    told = {
        "dataset": str(image_folder(root / "photos")),
        "model": "openai:played",
        "base_url": server.url,
        "iterations": 2,
        "train_seconds": 20,
        "accept": "better",
        "max_seeds": 1,
        "device": "cpu",
        "until_budget": True,
    }
    return Settings.model_validate(told | own)


@pytest.mark.parametrize("status", [401, pytest.param(503, marks=pytest.mark.slow)])
def test_a_provider_that_stays_away_stops_the_run_and_nothing_is_lost(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is withdrawn at once, an outage when patience is over; then resume goes on."""
    monkeypatch.setenv("IMPROVE_PATIENCE", "1.5")
    away = {"now": True}

    def character(ask: Ask) -> Reply:
        return Reply("no", status=status) if ask.turn == "write" and away["now"] else good(ask)

    with serving(character) as server:
        with pytest.raises(RunStopped, match=rf"does not answer: it answers {status}.*improve resume away") as stopped:
            run(start(tmp_path, server), name="away")
        assert stopped.value.exit_code == 3
        assert open_store().run("away").status == "stopped"
        away["now"] = False
        resume("away")
    rows = open_store().ledger("away")
    assert [row.iteration for row in rows] == [0, 1, 2]
    assert len(open_store().jobs("away", 0)) == 1


@pytest.mark.slow
def test_where_messages_are_streamed_no_usage_is_lost(tmp_path: Path) -> None:
    """As Studio does it: LangChain would then stream by itself, and servers count nothing in a stream unless they are asked to."""
    with serving() as server:
        graph = build_graph(Services()).compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "studio"}}
        settings = start(tmp_path, server, iterations=0).model_dump(mode="json")
        for _ in graph.stream(settings, config, stream_mode=["messages", "custom", "updates"]):  # type: ignore[arg-type]
            pass
    assert not any(ask.body.get("stream") for ask in server.requests)
    usages = [call.usage for call in open_store().calls("studio")]
    assert len(usages) == len(server.requests) == 6
    assert not any(usage.estimated for usage in usages)


@pytest.mark.slow
def test_bottom_up_each_engineer_writes_on_what_was_written(tmp_path: Path) -> None:
    with serving() as server:
        run(start(tmp_path, server, init="bottom-up", iterations=0), name="up")
    asked = [ask for ask in server.requests if ask.turn == "takeover"]
    assert [ask.role for ask in asked] == list(COMPONENTS)
    assert ["## data" in ask.text for ask in asked] == [False, True, True]
    assert ["## model" in ask.text for ask in asked] == [False, False, True]


@pytest.mark.slow
def test_what_an_architect_leaves_out_is_asked_for_and_then_written_by_its_engineer(tmp_path: Path) -> None:
    """Two of three components at first, nothing more in the second answer."""

    def character(ask: Ask) -> Reply:
        if ask.role == "architect" and ask.turn == "design":
            return Reply(f"A plan.\n{fenced(CODE['data'])}\n{fenced(CODE['model'])}")
        return Reply("That is all I have.") if ask.turn == "again" and ask.role == "architect" else good(ask)

    with serving(character) as server:
        run(start(tmp_path, server, iterations=0), name="part")
    assert [call.usage.problem for call in open_store().calls("part") if call.usage.role == "architect"][1:] == [
        "The answer holds no usable code for: training. Expected: three blocks of ```python, one for each component, each whole."
    ] * 2
    written = [(ask.role, "KEEP" in ask.text) for ask in server.requests if ask.turn == "takeover"]
    assert written == [("data", True), ("model", True), ("training", False)]
    assert open_store().run("part").design == "A plan."


@pytest.mark.slow
def test_the_example_of_the_prompts_trains_and_predicts(tmp_path: Path) -> None:
    def character(ask: Ask) -> Reply:
        whole = "\n\n".join(fenced(example()[component]) for component in COMPONENTS)
        return Reply(whole) if ask.turn == "design" else good(ask)

    with serving(character) as server:
        run(start(tmp_path, server, iterations=0), name="example")
    row = open_store().ledger("example")[0]
    assert (row.verdict, row.attempts) == ("first", 1)


@pytest.mark.slow
def test_global_all_three_revise(tmp_path: Path) -> None:
    def character(ask: Ask) -> Reply:
        return Reply(judgement(component="all", move="everything")) if ask.role == "analyst" else good(ask)

    with serving(character) as server:
        run(start(tmp_path, server, strategy="global", iterations=1), name="global")
    assert [ask.role for ask in server.requests if ask.turn == "write"] == list(COMPONENTS)
    before, after = (open_store().pipeline("global", number) for number in (0, 1))
    assert all(before.code(component) != after.code(component) for component in COMPONENTS)


@pytest.mark.slow
def test_zero_shot_is_one_naive_prompt_and_one_training(tmp_path: Path) -> None:
    def character(ask: Ask) -> Reply:
        return Reply(fenced("\n\n".join(CODE.values()))) if ask.turn == "zero-shot" else good(ask)

    with serving(character) as server:
        run(start(tmp_path, server, strategy="zero-shot", iterations=5), name="zero")
    asked = [ask for ask in server.requests if ask.turn not in {"greet", "summarise"}]
    assert [ask.turn for ask in asked] == ["zero-shot"]
    assert asked[0].text.startswith("Generate code for training a model on a dataset with 2 classes.")
    assert len(open_store().jobs("zero")) == 1
    assert Pipeline.model_validate(CODE).training.strip() in open_store().pipeline("zero", 0).training


@pytest.mark.slow
def test_an_inconclusive_change_may_be_asked_for_again(tmp_path: Path) -> None:
    """Its code comes from the store: the engineer is not asked."""

    def character(ask: Ask) -> Reply:
        if ask.role == "analyst" and ask.iteration == 2:
            return Reply(judgement(action="revisit", revisit=1, component=None))
        return good(ask)

    with serving(character) as server:
        run(start(tmp_path, server, iterations=1), name="again")
        store = open_store()
        undecided = store.ledger("again")[1].model_copy(update={"verdict": "inconclusive"})
        pipeline, proposal = store.pipeline("again", 1), store.proposal("again", 1)
        store.put_iteration(
            "again", undecided, previous=None, pipeline=pipeline, proposal=proposal, fault=None, training=None
        )
        resume("again", iterations=2)
    assert store.ledger("again")[2].move.endswith("once more")
    assert store.pipeline("again", 2) == pipeline
    assert [ask.turn for ask in server.requests if ask.iteration == 2 and ask.role == "training"] == []


@pytest.mark.slow
def test_the_budget_of_tokens_ends_a_run_with_its_report(tmp_path: Path) -> None:
    with serving() as server:
        settings = start(tmp_path, server, iterations=50)
        spent_first = _tokens_of_a_first_pipeline(tmp_path, server)
        name = run(settings.model_copy(update={"max_tokens": int(spent_first * 2.2)}), name="tokens")
    row = open_store().run(name)
    assert row.status == "finished"
    assert "tokens are left, and an iteration takes at least" in row.reason
    assert open_store().spent(name).tokens <= int(spent_first * 2.2)
    assert (run_dir(name) / "report.md").exists()


def _tokens_of_a_first_pipeline(root: Path, server: Server) -> int:
    run(start(root / "one", server, iterations=0), name="one")
    return open_store().spent("one").tokens


@pytest.mark.slow
def test_a_budget_that_ends_before_the_first_pipeline_stops_the_run_resumable(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(RunStopped, match="tokens are spent, and the next question has about .* --max-tokens N"):
            run(start(tmp_path, server, max_tokens=10_001), name="small")
        assert open_store().spent("small").tokens <= 10_001
        resume("small", max_tokens=1_000_000)
    assert open_store().run("small").status == "finished"
    assert checkpoints_path().exists()
