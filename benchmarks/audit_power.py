"""How often the audit's statistics catch a wrong build, and how rarely a right one.

Run it by ``PYTHONPATH=. python -m benchmarks.audit_power [--trials N] [--seed S] [--out FOLDER]``.
The observations are drawn from the mechanism's own distribution (σ, q, T of the claim, with the
fault put in), so that this is the power of the *statistics*; what the instrumented build does
is measured elsewhere. Two tables, each with its Monte-Carlo error and the figure expected:
step distinguishing (A4), and one-run canaries (A5). JSON and Markdown in FOLDER.

A4 is shown with two rules for the threshold, either of them on the held-out quarter alone: the
audit's own (midway between the medians), and the one that gives the quarter its largest bound.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from common.accounting import epsilon
from common.calibration import calibrate_noise_multiplier
from common.privacy_events import SampledGaussianEvent
from simulations.audit.one_run import f_dp, steinke
from simulations.audit.one_run.canary_scores import dirac_scores
from simulations.audit.one_run.guesses import Guesses, guess
from simulations.audit.one_run.trade_off import claimed_trade_off
from simulations.audit.step_distinguishing import (
    StepBound,
    bound_at,
    composed_epsilon_lower_bound,
    distance_lower_bound,
)

STEPS, RATE, DELTA, ALPHA = 200, 0.05, 1e-5, 0.05
SIGMA = 2.839  # ε = 1 at the above
CANARIES, GUESSED = 2000, 200  # m, and k₊ = k₋

# fault: (noise ÷ claimed, canary's norm ÷ C)
STEP_FAULTS = {
    "correct": (1, 1),
    "noise×0.9": (0.9, 1),
    "noise×0.8": (0.8, 1),
    "clip×1.2": (1, 1.2),
}
RUN_FAULTS = {"correct": (1, 1), "noise÷2": (0.5, 1), "noise off": (0, 1), "clip×10": (1, 10)}
EXPECTED_STEPS: dict[tuple[int, str], tuple[float | None, float | None]] = {
    (20_000, "correct"): (0.84, None),
    (20_000, "noise×0.9"): (None, 0.28),
    (20_000, "noise×0.8"): (None, 0.97),
    (20_000, "clip×1.2"): (None, 0.88),
    (100_000, "correct"): (0.93, None),
    (100_000, "noise×0.9"): (None, 0.98),
    (100_000, "noise×0.8"): (None, 1.0),
    (100_000, "clip×1.2"): (None, 1.0),
}
Figures: TypeAlias = tuple[float, float, str]
EXPECTED_RUNS: dict[tuple[int, str], Figures] = {
    (1, "correct"): (0.31, 0.47, "0/0"),
    (1, "noise÷2"): (0.76, 1.16, "0/76"),
    (1, "noise off"): (4.84, 8.35, "100/100"),
    (1, "clip×10"): (4.84, 8.35, "100/100"),
    (4, "correct"): (1.17, 1.81, "0/0"),
    (4, "noise÷2"): (3.04, 4.88, "0/100"),
    (4, "noise off"): (4.84, 8.35, "100/100"),
    (4, "clip×10"): (4.84, 8.35, "100/100"),
    (8, "correct"): (2.13, 3.34, "0/0"),
    (8, "noise÷2"): (4.40, 7.41, "0/24"),
    (8, "noise off"): (4.84, 8.35, "0/96–100"),
    (8, "clip×10"): (4.84, 8.35, "0/96–100"),
}


@dataclass(frozen=True)
class StepRow:
    """One cell of A4: `observations` of each world."""

    observations: int
    rule: str
    fault: str
    trials: int
    epsilon_median: float
    epsilon_error: float
    caught: float
    caught_error: float


@dataclass(frozen=True)
class RunRow:
    """One cell of A5; errors are Monte-Carlo standard errors."""

    claimed: int
    noise_multiplier: float
    fault: str
    trials: int
    steinke_median: float
    steinke_error: float
    f_dp_median: float
    f_dp_error: float
    steinke_caught: float
    f_dp_caught: float
    f_dp_family_caught: float
    caught_error: float


Rule: TypeAlias = Callable[[np.ndarray, np.ndarray, float], StepBound]


def largest_on_the_quarter(without: np.ndarray, with_canary: np.ndarray, alpha: float) -> StepBound:
    """`distance_lower_bound` with the percentile of the first quarter that bounds it best."""
    cut = len(without) // 4
    quarter = without[:cut], with_canary[:cut]
    percentiles = np.quantile(np.concatenate(quarter), np.linspace(0.01, 0.99, 99))
    best = max(percentiles, key=lambda threshold: bound_at(threshold, *quarter, alpha).mu)
    return bound_at(float(best), without[cut:], with_canary[cut:], alpha)


RULES: dict[str, Rule] = {
    "medians": distance_lower_bound,
    "largest bound": largest_on_the_quarter,
}


def step_row(n: int, rule: str, fault: str, trials: int, rng: np.random.Generator) -> StepRow:
    noise, clip = STEP_FAULTS[fault]
    bounds = np.array(
        [
            RULES[rule](
                rng.normal(0, SIGMA * noise, n), rng.normal(clip, SIGMA * noise, n), ALPHA
            ).mu
            for _ in range(trials)
        ]
    )
    caught = float((bounds > 1 / SIGMA).mean())
    # ε grows with μ: its median is that of the median, its error that of μ's, carried over.
    middle = float(np.median(bounds))
    above = composed(middle + median_error(bounds))
    return StepRow(
        n,
        rule,
        fault,
        trials,
        composed(middle),
        above - composed(middle),
        caught,
        rate_error(caught, trials),
    )


def composed(mu: float) -> float:
    return composed_epsilon_lower_bound(mu, RATE, STEPS, DELTA)


def run_row(claimed: int, sigma: float, fault: str, trials: int, seed: int) -> RunRow:
    rng = np.random.default_rng([seed, claimed, list(RUN_FAULTS).index(fault)])
    history = [SampledGaussianEvent(sigma, RATE, STEPS)]
    curve, claim = claimed_trade_off(history), epsilon(history, DELTA)
    one_run, family, gate = np.zeros(trials), np.zeros(trials), np.zeros(trials, dtype=bool)
    for i in range(trials):
        seen = play(sigma, fault, rng)
        one_run[i] = steinke.epsilon_lower_bound(seen, DELTA, ALPHA)
        family[i] = f_dp.gaussian_epsilon_lower_bound(seen, DELTA, ALPHA)
        gate[i] = f_dp.refutation(seen, curve, ALPHA) > 0
    return RunRow(
        claimed,
        sigma,
        fault,
        trials,
        float(np.median(one_run)),
        median_error(one_run),
        float(np.median(family)),
        median_error(family),
        float((one_run > claim).mean()),
        float(gate.mean()),
        float((family > claim).mean()),
        rate_error(float(gate.mean()), trials),
    )


def play(sigma: float, fault: str, rng: np.random.Generator) -> Guesses:
    """One run: draw who is in, the T noisy coordinates of every canary, and guess."""
    noise, clip = RUN_FAULTS[fault]
    included = rng.random(CANARIES) < 0.5
    shape = STEPS, CANARIES
    observed = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma * noise)
    observed += np.float32(clip) * ((rng.random(shape, dtype=np.float32) < RATE) & included)
    return guess(dirac_scores(observed, sigma, RATE), included, GUESSED, GUESSED)


def median_error(values: np.ndarray) -> float:
    """Standard error of a median: half the width of its 68% order-statistic interval."""
    ordered, n = np.sort(values), len(values)
    reach = math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return float(ordered[high] - ordered[low]) / 2


def rate_error(rate: float, trials: int) -> float:
    """Standard error of a rate, by Laplace's estimate so that 0 and 1 have one too."""
    smooth = (rate * trials + 1) / (trials + 2)
    return math.sqrt(smooth * (1 - smooth) / trials)


def markdown(steps: list[StepRow], runs: list[RunRow], ceiling: float) -> str:
    lines = [
        "# Power of the audit's statistics",
        "",
        "Written by `python -m benchmarks.audit_power`; ± is the Monte-Carlo standard error. The",
        f"observations are simulated (T = {STEPS}, q = {RATE}, δ = {DELTA}, α = {ALPHA}).",
        "",
        f"## Step distinguishing (A4), σ = {SIGMA}, claimed ε = 1",
        "",
        "The threshold comes from the held-out quarter: midway between its medians (the audit's",
        "own rule), or where its own bound is largest.",
        "",
        "| observations a world | threshold | build | trials | median ε_lb | expected | caught "
        "| expected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for step in steps:
        bound, rate = EXPECTED_STEPS[step.observations, step.fault]
        lines.append(
            f"| {step.observations:,} | {step.rule} | {step.fault} | {step.trials} | "
            f"{step.epsilon_median:.3f} ± {step.epsilon_error:.3f} | "
            f"{bound if bound is not None else ''} | "
            f"{step.caught:.0%} ± {step.caught_error:.0%} | "
            f"{f'{rate:.0%}' if rate is not None else ''} |"
        )
    lines += [
        "",
        f"## One-run canaries (A5), m = {CANARIES}, r = {2 * GUESSED}",
        "",
        f"With every guess right Steinke's bound shows {ceiling:.2f}. f-DP ε is that of the",
        "Gaussian family; it is caught by the curve that is claimed (in brackets: by the family).",
        "",
        "| claimed | build | trials | Steinke | f-DP | expected | caught % (Steinke/f-DP) "
        "| expected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        one, family, rejected = EXPECTED_RUNS[run.claimed, run.fault]
        lines.append(
            f"| {run.claimed} | {run.fault} | {run.trials} | {run.steinke_median:.2f} ± "
            f"{run.steinke_error:.2f} | {run.f_dp_median:.2f} ± {run.f_dp_error:.2f} | "
            f"{one}/{family} | {100 * run.steinke_caught:.0f}/{100 * run.f_dp_caught:.0f} ± "
            f"{100 * run.caught_error:.0f} ({100 * run.f_dp_family_caught:.0f}) | {rejected} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--trials",
        type=int,
        default=50,
        help="per cell of A5; A4 has 8 times as many of 20,000, 1.6 times of 100,000",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/audit"))
    options = parser.parse_args()
    rng = np.random.default_rng([options.seed, 4])
    steps = [
        step_row(n, rule, fault, max(2, options.trials * 8 * 20_000 // n), rng)
        for n in (20_000, 100_000)
        for rule in RULES
        for fault in STEP_FAULTS
    ]
    runs = []
    for claimed in (1, 4, 8):
        sigma = calibrate_noise_multiplier(
            target_epsilon=claimed, target_delta=DELTA, sample_rate=RATE, steps=STEPS
        )
        runs += [
            run_row(claimed, sigma, fault, options.trials, options.seed) for fault in RUN_FAULTS
        ]
    ceiling = steinke.power_ceiling(CANARIES, 2 * GUESSED, DELTA, ALPHA)
    text = markdown(steps, runs, ceiling)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "trials": options.trials,
        "seed": options.seed,
        "power_ceiling": ceiling,
        "step_distinguishing": [asdict(row) for row in steps],
        "one_run": [asdict(row) for row in runs],
    }
    (options.out / "power.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / "power.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
