"""``fedrec-site check``: does this site keep the promise on this machine, and what would leave?"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from client.connection_check import connection_lines
from client.policy import SitePolicy
from client.policy_file import POLICY_FILE
from client.site_data import declared_examples, has_no_tables_yet, load_site
from client.site_setup import policy_of
from client.source.preview import Preview
from client.start_up import prove_private_step
from common.config import RunConfig
from common.context import ContextEncoder, check_attributes
from common.cooccurrence import cell_count
from common.errors import ConfigError
from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.interactions import Catalogue
from common.metrics_plan import METRIC_COORDINATES, all_metrics_event
from common.noise_plan import cooccurrence_event, popularity_event, round_event
from common.privacy_events import SimpleEvent
from common.sum_plan import cooccurrence_plan, popularity_plan, update_plan
from common.unit_texts import UNIT_WORDS

_PARTS = {
    "none": "an exact update",
    "local": "a noised update",
    "distributed": "a masked part, with the site's share of the noise,",
    "central": "an exact part, to which the server adds the noise,",
}


class SiteCheck(NamedTuple):
    """What the source is like, what was proven, what would leave, and what stays; a line each."""

    source: list[str]
    proven: list[str]
    would_leave: list[str]
    never_leaves: list[str]


class _Site(NamedTuple):
    """What the checks need of a site that has its tables, or will get them from its source."""

    name: str
    simulated: bool
    catalogue: Catalogue
    attributes: Collection[str]
    declared_examples: int | None


def check_site(folder: Path, config: RunConfig, preview: Preview | None = None) -> SiteCheck:
    """Proves the private step for `config` on the site's catalogue; no user's data are touched.

    Args:
        folder: the site's.
        config: the run that is asked for.
        preview: of the site's source, where it has one.

    Raises:
        PolicyRefusal: the site's policy does not allow such a run.
        ConfigError: the mode needs peers and the policy pins none.
        DataError: the data cannot be used, or lack what `model.context` asks for.
        SelfTestError: the private step does not do what it claims here.
        ConnectionFault: the site has a connection.toml, and cannot join.
    """
    site = _site(folder, preview)
    policy = policy_of(folder, config, is_simulated=site.simulated)
    policy.check_run(config)
    if config.privacy.mode == "distributed" and not (policy.peers or site.simulated):
        raise ConfigError(
            [f"{folder / POLICY_FILE} pins no peers; add their identity keys under [peers]"]
        )
    if config.privacy.unit == "example":
        declared_examples(site.name, site.declared_examples)
    check_attributes(ContextEncoder.of(config.model), dict.fromkeys(site.attributes))
    proven = connection_lines(folder)
    proven += prove_private_step(config, site.catalogue).lines() if config.is_private else []
    return SiteCheck(
        [] if preview is None else preview.lines,
        proven or ["nothing: privacy.mode=none makes no claim"],
        _would_leave(config, policy, len(site.catalogue)),
        [
            "interactions, histories and ratings",
            "user ids and attributes, and how many of them there are beyond the declared number",
            "losses, counts and gradients of single users or steps",
            "the keys, and the fingerprint's key above all",
        ],
    )


def _site(folder: Path, preview: Preview | None) -> _Site:
    if preview is not None and has_no_tables_yet(folder):
        declared = preview.site
        return _Site(
            declared.name, False, preview.catalogue, preview.attributes, declared.declared_examples
        )
    data = load_site(folder)
    return _Site(
        data.site, data.simulated, data.catalogue, data.users.attributes, data.declared_examples
    )


def _would_leave(config: RunConfig, policy: SitePolicy, items: int) -> list[str]:
    lines = []
    numbers = size(adapter_shapes(config))
    popularity: SimpleEvent | None = popularity_event(config)
    step: SimpleEvent | None = round_event(config)
    pairs: SimpleEvent | None = cooccurrence_event(config)
    cells = cell_count(items, config.model.item_to_item_items) if config.model.item_to_item else 0
    if config.is_summed:
        plan = update_plan(config, numbers)
        popularity = popularity_plan(config, items).event(1.0)
        pairs = cooccurrence_plan(config, cells).event(1.0) if cells else None
        step = plan.event(config.privacy.sample_rate)
        lines.append(plan.describe())
    if config.model.popularity_prior:
        policy.check_release("popularity", popularity)
        lines.append(f"popularity counts, once: {popularity or 'exact'}")
    if cells:
        policy.check_release("cooccurrence", pairs)
        lines.append(f"co-occurrence of items in {cells} pairs, once: {pairs or 'exact'}")
    policy.check_release("update", step)
    lines.append(
        f"{_PARTS[config.privacy.mode]} of {numbers} numbers in {len(adapter_shapes(config))} "
        f"tensors, in each of {config.federation.rounds} rounds: {step or 'exact'}"
    )
    lines += _metrics_lines(config, policy)
    if config.is_private:
        words = UNIT_WORDS[config.privacy.unit]
        lines.append(
            f"all of it at the cost per {words.unit}: {words.relation}. {words.note}".strip()
        )
    lines.append("the site's name, its declared number of units, refusals, signed checkpoints")
    return lines


def _metrics_lines(config: RunConfig, policy: SitePolicy) -> list[str]:
    event = all_metrics_event(config)
    if event is not None:
        policy.check_release("metrics", event)
        return [f"sums of {len(METRIC_COORDINATES)} metrics over all users, noised: {event}"]
    exact = config.evaluation.metrics == "exact" and policy.allow_exact_metrics
    if exact and "metrics" in policy.allowed_releases:
        return ["exact sums of metrics (simulated sites: for the lab only)"]
    return []
