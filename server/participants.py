"""Which sites are asked in a round: all of them, or a fresh draw of `sites_per_round`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from common.config import RunConfig
from common.randomness import RandomSource, seeded_source


def participants(nodes: Iterable[int], config: RunConfig, server_round: int) -> list[int]:
    """The nodes of a round, in rising order; its training and its metrics ask the same ones.

    The draw is uniform, without replacement, and seeded from `federation.seed` and the round,
    so that a run repeats where its nodes do. Whoever knows the seed knows the draw: no privacy
    amplification comes of it. A site pays in its ledger for the rounds that it was asked in,
    and noise is calibrated for a site that is drawn in every round.

    Args:
        nodes: all nodes; a range is not made into a list.
        config: the run's configuration.
        server_round: 0 for the popularity release.
    """
    ordered = nodes if isinstance(nodes, range) else sorted(nodes)
    wanted = config.federation.sites_per_round
    if not 0 < wanted < len(ordered):
        return list(ordered)
    source = seeded_source(config.federation.seed, "participants", server_round)
    return sorted(_drawn(ordered, wanted, source))


def count(nodes: Iterable[int]) -> int:
    """The number of nodes, without a list of them where that can be."""
    return len(nodes) if isinstance(nodes, Collection) else sum(1 for _ in nodes)


def _drawn(ordered: Sequence[int], wanted: int, source: RandomSource) -> list[int]:
    """`wanted` of `ordered`: places drawn one by one, a repeated place drawn again."""
    places: dict[int, None] = {}
    while len(places) < wanted:
        for place in source.integers(len(ordered), wanted - len(places)):
            places[int(place)] = None
    return [ordered[place] for place in places]
