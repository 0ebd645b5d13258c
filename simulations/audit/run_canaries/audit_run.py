"""An audit run, from the lab's side: canaries in before the first round, scores after the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.config import RunConfig
from common.config_loading import load_config
from common.context import ContextEncoder
from common.errors import ConfigError
from common.interactions import Dataset
from common.run_folder import RunFolder
from simulations.audit.run_canaries.plan import DEFAULT_CANARIES, CanarySecret, begin, coins, end
from simulations.audit.run_canaries.scoring import Side, real_sides, scores, seen_sums
from simulations.audit.run_canaries.weaving import canary_splits, made_up, weave

_KEY = "evaluation.audit_canaries"


def audit_config(scenario: Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of an audit run: what ``--audit`` lays over scenario and overrides.

    No site is asked for metrics, for canaries would be among its users, and no companion runs;
    the lab's own table is over the real users.

    Raises:
        ConfigError: a fault of the configuration, or the run would release metrics, and its ε
            pays for them.
    """
    asked = load_config(scenario=scenario, overrides=[*overrides, f"{_KEY}=0"])
    if asked.evaluation.metrics == "private":
        raise ConfigError(
            [
                "evaluation.metrics=private in an audit run: canaries would be in the released "
                "metrics; set evaluation.metrics=none, and mind that ε is shared out otherwise then"
            ]
        )
    laid = [*overrides, "evaluation.metrics=none", "evaluation.companions="]
    config = load_config(scenario=scenario, overrides=laid)
    if config.evaluation.audit_canaries:
        return config
    return load_config(scenario=scenario, overrides=[*laid, f"{_KEY}={DEFAULT_CANARIES}"])


def committed(config: RunConfig, folder: RunFolder) -> tuple[RunConfig, CanarySecret | None]:
    """The configuration with its commitment, and the secret; as it is, and None, for other runs.

    Raises:
        ConfigError: the run's sites are somebody's folder, which no canary may go into.
    """
    if config.evaluation.audit_canaries == 0:
        return config, None
    if config.data.sites_folder:
        raise ConfigError(
            [
                f"data.sites_folder={config.data.sites_folder} in an audit run: made-up users "
                "would be written into it; leave it empty, and the sites are made for the run"
            ]
        )
    config, secret = begin(folder.path, config)
    folder.write_config(config)
    return config, secret


@contextmanager
def with_canaries(
    config: RunConfig, folder: RunFolder, dataset: Dataset | None, secret: CanarySecret | None
) -> Iterator[None]:
    """Around the rounds: canaries are woven into the sites, and scored when all is over.

    Args:
        config: of the run; `data.sites_folder` is where its sites were made.
        folder: the run's.
        dataset: the real data.
        secret: from `committed`; None: nothing happens.
    """
    if secret is None or dataset is None:
        yield
        return
    canaries, sites = config.evaluation.audit_canaries, Path(config.data.sites_folder)
    made = made_up(dataset, secret.seed, canaries)
    weave(sites, config, made, coins(secret.seed, canaries))
    yield
    names = tuple(dataset.users.attributes) if ContextEncoder.of(config.model).width else ()
    own = Side.of(canary_splits(config, made, names), config)
    seen = seen_sums(folder, config, dataset.catalogue, real_sides(sites, config), own)
    end(folder.path, secret, tuple(scores(seen, canaries).tolist()))
