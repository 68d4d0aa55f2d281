"""Accept or reject: what each rule does with which numbers, laws of the comparison, and what the ledger teaches."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.acceptance import __main__ as benchmark
from benchmarks.acceptance import effects, race, world
from sandbox.acceptance import PAIRED_LEVEL, Prior, chosen, compare, decide, prior_from, smallest_kept, standings
from sandbox.gains import MARGIN
from schema.score import Comparison, Verdict
from schema.settings import Metric, Rule, Settings
from schema.team import LedgerRow

METRICS: tuple[Metric, ...] = get_args(Metric)
RULES: tuple[Rule, ...] = get_args(Rule)
NEUTRAL = Prior(mean=0.0, sd=0.05)


def comparison(delta: float, p: float = 0.3, expected: float | None = None, error: float = 0.01) -> Comparison:
    gain = delta / 2 if expected is None else expected
    return Comparison(
        metric="accuracy",
        n=706,
        seeds=1,
        delta=delta,
        standard_error=error,
        p_value=p,
        expected=gain,
        low=gain - 0.02,
        high=gain + 0.02,
    )


def one_hot(chosen: np.ndarray, classes: int = 3) -> np.ndarray:
    return np.eye(classes)[chosen] * 0.8 + 0.2 / classes


def pair(both: int, ours: int, theirs: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and probabilities of an incumbent and a candidate with so many images right together, alone, and not at all."""
    n = both + ours + theirs + neither
    labels = np.arange(n) % 3
    wrong = (labels + 1) % 3
    candidate_right = np.repeat([True, True, False, False], [both, ours, theirs, neither])
    incumbent_right = np.repeat([True, False, True, False], [both, ours, theirs, neither])
    return labels, one_hot(np.where(incumbent_right, labels, wrong)), one_hot(np.where(candidate_right, labels, wrong))


def noisy(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).standard_normal((len(labels), 3))
    logits[np.arange(len(labels)), labels] += skill
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("rule", "numbers", "can_repeat", "verdict"),
    [
        ("better", comparison(0.001), False, "accepted"),
        ("better", comparison(0.001, expected=-0.01), True, "accepted"),
        ("better", comparison(0.0, p=1.0), True, "rejected"),
        ("better", comparison(-0.001), True, "rejected"),
        ("paired", comparison(0.03, p=0.01), True, "accepted"),
        ("paired", comparison(0.03, p=0.01), False, "accepted"),
        ("paired", comparison(0.01, p=0.2), True, "undecided"),
        ("paired", comparison(0.01, p=0.2), False, "inconclusive"),
        ("paired", comparison(0.001, p=0.9), True, "inconclusive"),
        ("paired", comparison(0.0, p=1.0), True, "rejected"),
        ("paired", comparison(-0.03, p=0.001), False, "rejected"),
        ("expected", comparison(0.01, expected=0.002), False, "accepted"),
        ("expected", comparison(0.01, expected=0.002), True, "accepted"),
        ("expected", comparison(0.004, expected=-0.001), True, "rejected"),
        ("expected", comparison(0.01, expected=0.0005, error=0.04), True, "undecided"),
        ("expected", comparison(0.01, expected=-0.0005, error=0.04), True, "undecided"),
        ("expected", comparison(0.01, expected=0.0005, error=0.04), False, "accepted"),
        ("expected", comparison(0.01, expected=0.0005, error=0.01), True, "accepted"),
        ("expected", comparison(-0.002, expected=0.001), True, "accepted"),
        ("expected", comparison(-0.008, expected=0.001), True, "rejected"),
        ("expected", comparison(0.0, p=1.0, expected=0.0), True, "rejected"),
    ],
)
def test_verdicts(rule: Rule, numbers: Comparison, can_repeat: bool, verdict: str) -> None:
    assert decide(rule, numbers, can_repeat=can_repeat).verdict == verdict


def test_the_reason_carries_the_numbers_that_decided() -> None:
    reason = decide("expected", comparison(0.012, p=0.18, expected=0.0031, error=0.009), can_repeat=False).reason
    assert reason == (
        "a true gain is expected: measured +1.20 ± 0.90 points, expected +0.31 [-1.69, +2.31], p=0.18, n=706"
    )


def test_a_kept_change_that_scored_lower_says_why() -> None:
    reason = decide("expected", comparison(-0.002, expected=0.001), can_repeat=False).reason
    assert reason.startswith("a true gain is expected, since the incumbent's score is thought lucky")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("metric", METRICS)
def test_identical_answers_are_no_gain_under_any_rule(metric: Metric, rule: Rule) -> None:
    labels = np.arange(90) % 3
    same = noisy(labels, 1.0, seed=0)
    hopeful = Prior(mean=0.05, sd=0.05, luck=0.02, luck_sd=0.01)
    found = compare(metric, labels, [same], [same.copy()], hopeful)
    assert (found.delta, found.p_value, found.expected) == (0.0, 1.0, 0.0)
    decision = decide(rule, found, can_repeat=True)
    assert decision.verdict == "rejected"
    assert decision.reason.endswith("it gives the same answer as the incumbent to each of the 90 images")


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(METRICS), st.integers(1, 2))
def test_swapping_candidate_and_incumbent_negates_the_difference(seed: int, metric: Metric, seeds: int) -> None:
    labels = np.arange(60) % 3
    ours, theirs = ([noisy(labels, skill, seed + k) for k in range(seeds)] for skill in (1.0, 1.4))
    there, back = compare(metric, labels, ours, theirs, NEUTRAL), compare(metric, labels, theirs, ours, NEUTRAL)
    assert back.delta == pytest.approx(-there.delta, abs=1e-12)


@settings(max_examples=30)
@given(st.permutations(range(3)), st.sampled_from([m for m in METRICS if m != "quadratic_kappa"]))
def test_renaming_the_classes_changes_no_comparison(order: list[int], metric: Metric) -> None:
    labels = np.arange(60) % 3
    ours, theirs = noisy(labels, 1.0, 1), noisy(labels, 1.3, 2)
    before = compare(metric, labels, [ours], [theirs], NEUTRAL)
    after = compare(metric, np.argsort(order)[labels], [ours[:, order]], [theirs[:, order]], NEUTRAL)
    assert after.delta == pytest.approx(before.delta)
    assert after.standard_error == pytest.approx(before.standard_error, rel=1e-4)


def test_the_order_of_the_images_does_not_matter() -> None:
    labels, incumbent, candidate = pair(60, 12, 5, 23)
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = compare("accuracy", labels[order], [incumbent[order]], [candidate[order]], NEUTRAL)
    assert shuffled.model_dump() == pytest.approx(
        compare("accuracy", labels, [incumbent], [candidate], NEUTRAL).model_dump()
    )


@pytest.mark.parametrize(("ours", "theirs"), [(5, 0), (0, 4), (6, 1), (9, 3), (1, 1), (2, 8)])
def test_few_discordant_images_are_judged_by_the_exact_mcnemar_test(ours: int, theirs: int) -> None:
    """With an error near 0 the seed variance is small, so that the exact test is the stricter of the two."""
    labels, incumbent, candidate = pair(980, ours, theirs, 0)
    exact = stats.binomtest(ours, ours + theirs, 0.5).pvalue
    assert compare("accuracy", labels, [incumbent], [candidate], NEUTRAL).p_value == pytest.approx(exact, rel=1e-6)


def test_many_discordant_images_are_judged_with_the_seeds_in_mind() -> None:
    """McNemar compares two models: on a re-seed of one recipe it calls a difference real far too often."""
    labels, incumbent, candidate = pair(6000, 900, 780, 2320)
    mcnemar = stats.binomtest(900, 1680, 0.5).pvalue
    assert mcnemar < PAIRED_LEVEL < compare("accuracy", labels, [incumbent], [candidate], NEUTRAL).p_value


def test_the_standard_error_is_that_of_a_paired_difference_and_of_seeds() -> None:
    labels, incumbent, candidate = pair(700, 60, 40, 200)
    found = compare("accuracy", labels, [incumbent], [candidate], NEUTRAL)
    images = (60 + 40 + 1) / 1000**2 - 0.02**2 / 1000
    seeds = 2 * (0.02 * 0.26) ** 2  # the incumbent errs on 26 %
    assert found.standard_error == pytest.approx(np.sqrt(images + seeds))


def test_seeds_that_disagree_widen_the_standard_error_and_seeds_that_agree_narrow_it() -> None:
    labels = np.arange(2000) % 3
    calm = [noisy(labels, 1.50, 1), noisy(labels, 1.50, 2)]
    wild = [noisy(labels, 1.15, 1), noisy(labels, 1.85, 2)]
    errors = [
        compare("accuracy", labels, side, [noisy(labels, 1.5, 3)], NEUTRAL).standard_error for side in (calm, wild)
    ]
    assert (
        errors[0] < compare("accuracy", labels, calm[:1], [noisy(labels, 1.5, 3)], NEUTRAL).standard_error < errors[1]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_better_candidate_has_a_positive_difference_on_every_metric(metric: Metric) -> None:
    labels = np.arange(600) % 3
    found = compare(metric, labels, [noisy(labels, 0.5, 1)], [noisy(labels, 2.5, 2)], NEUTRAL)
    assert found.delta > 0
    assert found.p_value < 0.001
    assert 0 < found.low < found.expected < found.delta


def test_the_standard_error_is_the_spread_that_repeating_the_experiment_has() -> None:
    """New images and new trainings of two recipes, many times; the seeds of this world differ only by their images."""
    labels = np.arange(400) % 3
    found = [
        compare("accuracy", labels, [noisy(labels, 1.5, 2 * k)], [noisy(labels, 1.5, 2 * k + 1)], NEUTRAL)
        for k in range(200)
    ]
    images = np.mean([f.standard_error**2 - 2 * (0.02 * 0.23) ** 2 for f in found]) ** 0.5
    assert np.std([f.delta for f in found]) == pytest.approx(images, rel=0.15)


def test_no_training_of_one_side_is_refused() -> None:
    labels, incumbent, _ = pair(5, 1, 1, 1)
    with pytest.raises(ValueError, match="at least one training"):
        compare("accuracy", labels, [incumbent], [], NEUTRAL)


def row(iteration: int, delta: float, verdict: str = "rejected", base: int = 0, error: float = 0.01) -> LedgerRow:
    return LedgerRow(
        iteration=iteration,
        base=base,
        component="model",
        move="a change",
        verdict=verdict,
        validation=0.8 + delta,
        delta=delta,
        standard_error=error,
    )


FIRST = LedgerRow(iteration=0, base=None, component="all", move="first pipeline", verdict="first", validation=0.8)


def believed(ledger: list[LedgerRow]) -> Prior:
    return prior_from(ledger, "accuracy")


def test_an_empty_ledger_expects_little() -> None:
    prior = believed([])
    assert -0.02 < prior.mean < 0.01
    assert 0.01 < prior.sd < 0.1
    assert (prior.luck, prior.luck_sd) == (0.0, None)


def test_rows_without_a_comparison_teach_nothing() -> None:
    failed = LedgerRow(iteration=1, base=0, component="model", move="a change", verdict="failed")
    assert believed([FIRST, failed]) == believed([FIRST]) == believed([])


def test_a_few_rows_move_the_prior_a_little() -> None:
    before, after = believed([]), believed([FIRST, row(1, 0.02), row(2, 0.03)])
    assert before.mean < after.mean < 0.05


def test_many_harmful_changes_teach_pessimism() -> None:
    assert believed([FIRST, *(row(k, -0.02, error=0.004) for k in range(1, 10))]).mean < -0.04


def test_one_collapse_teaches_hardly_anything() -> None:
    calm = [FIRST, row(1, 0.002), row(2, -0.004), row(3, 0.001)]
    collapsed = believed([*calm, row(4, -0.7)])
    assert collapsed.mean == pytest.approx(believed(calm).mean, abs=0.01)
    assert collapsed.luck == pytest.approx(believed(calm).luck, abs=0.003)


def test_a_winner_is_thought_lucky_and_the_next_candidate_is_not_held_to_its_luck() -> None:
    lucky = believed([FIRST, row(1, 0.02, "accepted")])
    assert 0 < lucky.luck < 0.02
    labels, incumbent, candidate = pair(700, 50, 50, 200)
    held = compare("accuracy", labels, [incumbent], [candidate], Prior(lucky.mean, lucky.sd))
    excused = compare("accuracy", labels, [incumbent], [candidate], lucky)
    assert excused.expected > held.expected


def test_luck_belongs_to_the_incumbent_and_leaves_with_it() -> None:
    assert (
        believed([FIRST, row(1, 0.02, "accepted"), row(2, -0.01, base=0)]).luck
        < believed([FIRST, row(1, 0.02, "accepted"), row(2, -0.01, base=1)]).luck
    )


def test_of_a_very_long_run_the_last_rows_count_and_the_incumbent() -> None:
    late = [row(k, -0.01 if k % 2 else 0.005, base=100) for k in range(701, 1001)]
    early = [row(k, 0.02, base=0) for k in range(1, 100)]
    incumbent = row(100, 0.03, "accepted", base=0)
    assert believed([FIRST, *early, incumbent, *late]) == believed([FIRST, incumbent, *late])


def test_the_prior_counts_in_shares_of_the_error_so_that_it_fits_all_accuracies() -> None:
    labels, incumbent, candidate = pair(950, 20, 10, 20)
    near = compare("accuracy", labels, [incumbent], [candidate], NEUTRAL)
    labels, incumbent, candidate = pair(650, 20, 10, 320)
    far = compare("accuracy", labels, [incumbent], [candidate], NEUTRAL)
    assert near.delta == far.delta
    assert near.expected < far.expected


def test_log_loss_counts_its_own_value_as_headroom() -> None:
    first = FIRST.model_copy(update={"validation": 0.5})
    rows = [first, *(row(k, 0.05, error=0.005).model_copy(update={"validation": 0.45}) for k in range(1, 6))]
    assert prior_from(rows, "log_loss").mean > 0.01


def at(row_: LedgerRow, validation: float) -> LedgerRow:
    return row_.model_copy(update={"validation": validation})


def test_of_the_incumbents_the_last_one_is_taken_home() -> None:
    ledger = [FIRST, row(1, 0.03, "accepted"), row(2, 0.03, "accepted", base=1)]
    assert [one.iteration for one in standings(ledger, "accuracy")] == [0, 1, 2]
    assert chosen(at_scores(ledger), "accuracy").iteration == 2


def at_scores(ledger: list[LedgerRow]) -> list[LedgerRow]:
    """With the score that follows from each difference."""
    scores = {0: 0.8}
    for one in ledger[1:]:
        assert one.base is not None
        scores[one.iteration] = scores[one.base] + (one.delta or 0.0)
    return [at(one, scores[one.iteration]) for one in ledger]


def test_who_has_walked_downhill_goes_back_to_the_best() -> None:
    """Each step was allowed: a little lower than an incumbent that was thought lucky."""
    steps = [row(1, 0.03, "accepted")] + [row(k, -0.006, "accepted", base=k - 1) for k in range(2, 9)]
    assert chosen(at_scores([FIRST, *steps]), "accuracy").iteration < 4


def test_a_small_lead_of_an_earlier_one_is_not_believed() -> None:
    ledger = at_scores([FIRST, row(1, 0.03, "accepted"), row(2, -0.001, "accepted", base=1)])
    assert chosen(ledger, "accuracy").iteration == 2


def test_an_incumbent_whose_rivals_all_disappoint_is_believed_less() -> None:
    kept = at_scores([FIRST, row(1, 0.03, "accepted")])
    after = [*kept, *at_scores([FIRST, *(row(k, -0.02, base=0) for k in range(2, 8))])[1:]]
    after = [one.model_copy(update={"base": 1}) if one.iteration > 1 else one for one in after]
    assert standings(after, "accuracy")[1].believed("accuracy") < standings(kept, "accuracy")[1].believed("accuracy")


def test_of_a_loss_the_believed_one_is_higher_than_the_lucky_one_that_is_shown() -> None:
    ledger = [at(FIRST, 0.5), at(row(1, 0.05, "accepted", error=0.02), 0.45)]
    last = standings(ledger, "log_loss")[1]
    assert last.luck > 0
    assert last.believed("log_loss") > last.shown
    assert chosen(ledger, "log_loss").iteration == 1


def test_without_a_score_there_is_nobody_to_choose() -> None:
    with pytest.raises(ValueError, match="no pipeline of this ledger has a score"):
        chosen([], "accuracy")


@given(st.lists(st.tuples(st.floats(-0.1, 0.1), st.sampled_from(["accepted", "rejected"])), max_size=12))
def test_who_is_chosen_was_an_incumbent_and_is_never_believed_far_below_another(
    steps: list[tuple[float, Verdict]],
) -> None:
    ledger, incumbent = [FIRST], 0
    for number, (delta, verdict) in enumerate(steps, start=1):
        ledger.append(row(number, delta, verdict, base=incumbent))
        incumbent = number if verdict == "accepted" else incumbent
    ledger = at_scores(ledger)
    winner, all_ = chosen(ledger, "accuracy"), standings(ledger, "accuracy")
    assert winner in all_
    best = max(one.believed("accuracy") for one in all_)
    assert winner.believed("accuracy") >= best - MARGIN * all_[-1].standard_error - 1e-12


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_benchmark_decides_with_the_numbers_that_a_run_would_have(seeds: int) -> None:
    """`benchmarks/acceptance` compares many runs at once; here one of them goes through `compare` as well."""
    rng = np.random.default_rng(5)
    difficulty, truth = world.images(rng, 2, 500), world.draw(rng, world.MIXES[1], 2)
    simulated = race._begin(race.RULES[-1], race.Setting("paper", 0.9, 0.005, 500), difficulty, truth, 2)
    theirs = [simulated.right[0], difficulty[1, 0] < 1.3][:seeds]
    ours = [difficulty[seed, 1] < 1.4 for seed in range(seeds)]
    sides = (ours[0], theirs[0]) if seeds == 1 else (race._sum(ours), race._sum(theirs))
    many = race._measure(simulated, *sides, seeds=seeds)
    labels = np.zeros(500, dtype=np.int64)
    incumbent, candidate = ([one_hot(np.where(side[0], 0, 1)) for side in sides] for sides in (theirs, ours))
    one = compare("accuracy", labels, incumbent, candidate, believed([]))
    assert many.delta[0] == pytest.approx(one.delta)
    if seeds == 1:  # with two, a run also learns from the pair of seeds how much seeds differ
        assert many.error[0] == pytest.approx(one.standard_error)
        assert many.p_value[0] == pytest.approx(one.p_value)
        assert many.gain[0] == pytest.approx(one.expected)
    else:
        assert many.error[0] == pytest.approx(one.standard_error, rel=0.1)


def test_the_default_rule_is_the_one_that_the_benchmark_found_best() -> None:
    results = Path(benchmark.RESULTS).read_text(encoding="utf-8")
    found = re.search(r"Best in mean over the grid: \*\*(\w+)\*\*", results)
    assert found is not None
    assert Settings(dataset="digits").accept == found[1]


@pytest.mark.slow
def test_the_measured_world_is_what_the_table_of_real_changes_says() -> None:
    found = effects.fitted(effects.known())
    assert (round(found.scale, 3), round(found.mean, 3)) == world.MEASURED
    assert effects.TABLE.read_text(encoding="utf-8") == effects.table(effects.known())


def test_the_quick_benchmark_prints_a_row_per_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(race.RULES)


@pytest.mark.parametrize("rule", ["better", "paired", "expected"])
def test_the_smallest_change_that_is_kept_is_kept_and_one_less_is_not(rule: Rule) -> None:
    prior = believed([])
    net = smallest_kept(rule, 500, mistakes=60, lost=8, prior=prior)
    assert net is not None

    def verdict(gained: int) -> str:
        labels, incumbent, candidate = pair(440 - 8, gained, 8, 60 - gained)
        return decide(rule, compare("accuracy", labels, [incumbent], [candidate], prior), can_repeat=False).verdict

    assert verdict(8 + net) == "accepted"
    assert verdict(8 + net - 1) != "accepted"


@pytest.mark.parametrize(
    ("mistakes", "rule", "ceiling"),
    [(0, "expected", True), (0, "better", True), (4, "paired", True), (9, "paired", False)],
)
def test_near_a_perfect_score_no_change_can_be_told_any_more(mistakes: int, rule: Rule, ceiling: bool) -> None:
    assert (smallest_kept(rule, 870, mistakes, 0, believed([])) is None) == ceiling
