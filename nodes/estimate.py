"""Before a run: what its held-out images can tell apart, how long it may take, and what language models may cost."""

import math

from agents.llm.prices import cost_of, prices
from checkpoints.home import prices_path
from schema.dataset import DatasetProfile
from schema.settings import Settings
from schema.team import Usage
from schema.text import duration

# Measured (benchmarks/acceptance): of the images that a pipeline errs on, so many are answered otherwise by the next one, per mistake.
DISCORDANT = 0.6
TYPICAL_ERROR = 0.1
HURRIED, HURRIED_PER_IMAGE = 10.0, 0.01  # seconds; the few that a training takes before its first step are not counted
# Tokens of a run by the scripted model of benchmarks/tokens, in and out: the first pipeline, and each iteration. Answers of real models are longer.
FIRST, EACH, EACH_GLOBAL, ZERO_SHOT = 29_400, 14_900, 30_400, 1_300
OUTPUT_SHARE = 0.12


def estimates(settings: Settings, profile: DatasetProfile) -> list[str]:
    """Return a sentence on each: certainty, time, tokens."""
    told = (certainty(settings, profile), _time(settings), _hurry(settings, profile), _tokens(settings))
    return [sentence for sentence in told if sentence]


def certainty(settings: Settings, profile: DatasetProfile) -> str:
    n = profile.size(settings.select_on)
    points = 100 * math.sqrt((DISCORDANT * TYPICAL_ERROR * n + 1) / n**2)
    return (
        f"{n:,} {settings.select_on} images decide: where 9 of 10 are answered right, one comparison is uncertain by about ±{points:.1f} points; "
        "smaller gains may be kept, and cannot be proven one by one"
    )


def _time(settings: Settings) -> str:
    changes = f"{settings.iterations} {'change' if settings.iterations == 1 else 'changes'}"
    if settings.budget_seconds is not None:
        return f"at most {duration(settings.budget_seconds)} for {changes}, trainings of up to {duration(settings.train_seconds)} each"
    most = (1 + (0 if settings.strategy == "zero-shot" else settings.iterations)) * settings.train_seconds
    return (
        f"up to {duration(most)} on a machine that does nothing else: {changes}, trainings of up to {duration(settings.train_seconds)} each, "
        "second looks at close calls not counted; --budget sets a limit"
    )


def _hurry(settings: Settings, profile: DatasetProfile) -> str:
    if settings.train_seconds >= min(HURRIED, HURRIED_PER_IMAGE * profile.size("train")):
        return ""
    given = "--train-limit" if settings.budget_seconds is None else "--train-limit or --budget"
    return (
        f"little: {settings.train_seconds:.3g} s for a training are hardly a look at the images; {given} is too short "
        "for more than a trial of the program"
    )


def _tokens(settings: Settings) -> str:
    if settings.model == "playbook":
        return ""
    each = EACH_GLOBAL if settings.strategy == "global" else EACH
    tokens = ZERO_SHOT if settings.strategy == "zero-shot" else FIRST + each * settings.iterations
    out = round(OUTPUT_SHARE * tokens)
    usage = Usage(role="analyst", model=settings.model, tokens_in=tokens - out, tokens_out=out)
    price = cost_of(usage, prices(prices_path()))
    cost = "" if price is None else f", ${price:.2f} with {settings.model}"
    return f"about {round(tokens, -3):,} tokens{cost}, more if the model thinks at length"
