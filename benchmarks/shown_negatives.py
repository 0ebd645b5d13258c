"""Do items shown and not clicked, as negatives, help? Paired, on validation impressions.

``python -m benchmarks.shown_negatives FILE`` adds one JSON line to FILE for each scenario and ε
that it lacks, so that it can be cut short. Each pair of runs has the same sample, sites and
seeds; the intervals are a bootstrap over users of the difference of means over impressions.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from common.build_recommender import build_recommender
from common.config import RunConfig
from common.config_loading import load_config
from common.progress import SilentListener
from common.run_folder import RunFolder
from simulations.datasets import load_dataset
from simulations.evaluation.impression_metrics import IMPRESSION_METRICS
from simulations.evaluation.impressions import score_impressions, stage_impressions
from simulations.fairness.user_intervals import percentile_interval, resampled_sums
from simulations.lab import held_out
from simulations.public.loading import impressions_of
from simulations.run_scorer import run_scorer
from simulations.scenario_files import find_scenario
from simulations.simulate import simulate

EPSILONS = {"inf": ["privacy.mode=none"], "8": []}
SEEDS = (0, 1)


def main() -> None:
    """Measures what FILE lacks."""
    path = Path(sys.argv[1])
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {(line["scenario"], line["epsilon"], line["seed"]) for line in map(json.loads, known)}
    for seed in SEEDS:
        for scenario in ("news", "ads"):
            for epsilon, settings in EPSILONS.items():
                if (scenario, epsilon, seed) in done:
                    continue
                sums = [_sums(scenario, [*settings, *_arm(arm, seed)]) for arm in (False, True)]
                found = {"scenario": scenario, "epsilon": epsilon, "seed": seed, **_gain(*sums)}
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")


def _arm(shown: bool, seed: int) -> list[str]:
    seeds = [f"data.seed={seed}", f"federation.seed={seed}"]
    return [f"data.shown_negatives={str(shown).lower()}", "evaluation.lab=false", *seeds]


def _sums(scenario: str, settings: list[str]) -> np.ndarray:
    """float64[U, 5] of the validation impressions under a fresh run."""
    config: RunConfig = load_config(scenario=find_scenario(scenario), overrides=settings)
    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder.create(Path(temporary) / "run")
        folder.write_config(config)
        simulate(config, folder, SilentListener())
        dataset = load_dataset(config.data)
        recommender = build_recommender(config, dataset.catalogue)
        shown = impressions_of(config.data)
        stage = stage_impressions(shown, held_out(config, dataset), dataset.catalogue, "validation")
        return score_impressions(run_scorer(recommender, folder), stage).sums


def _gain(off: np.ndarray, on: np.ndarray) -> dict[str, object]:
    """Means of both arms, and the paired difference with its 95% interval, by metric."""
    both = resampled_sums(np.hstack([off, on]), resamples=2000, seed=0)
    width = len(IMPRESSION_METRICS)
    found: dict[str, object] = {"users": len(off)}
    for place, metric in enumerate(IMPRESSION_METRICS):
        a, b = (each[:, place].sum() / each[:, -1].sum() for each in (off, on))
        drawn = both[:, width + 1 + place] / both[:, -1] - both[:, place] / both[:, width]
        interval = percentile_interval(float(b - a), drawn)
        found[metric] = {
            "off": round(float(a), 4),
            "on": round(float(b), 4),
            "difference": [
                round(float(v), 4) for v in (interval.mean, interval.low, interval.high)
            ],
        }
    return found


if __name__ == "__main__":
    main()
