"""Who sees what, by privacy mode, in the words of the promise."""

from __future__ import annotations

MODES: tuple[tuple[str, str, str, str], ...] = (
    ("none", "nobody", "everybody", "each site's exact update"),
    ("local", "each site, in full", "the user's own site", "each site's noised update"),
    (
        "distributed",
        "each site a share; the sum carries the noise",
        "the user's own site, and that `min_honest` sites follow the protocol",
        "only the masked sum of all sites",
    ),
    ("central", "the server", "the user's own site and the server", "each site's exact update"),
)
"""Mode, who adds noise, who must be trusted, what the server sees."""

_UPDATE = {mode: sees for mode, _, _, sees in MODES}
_PRIVATE_METRICS = (
    {
        "what": "metrics, summed over a site's users and noised",
        "site": "its own",
        "server": "each site's noised sums",
        "others": "the noised means over all sites",
    },
)
_EXACT = {"none", "central"}


def parties(
    mode: str, metrics: str = "exact", unit: str = "user", *, pairs: bool = False
) -> list[dict[str, str]]:
    """List, for each kind of data, what its site, the server and others see in `mode`.

    Args:
        mode: `privacy.mode`.
        metrics: `evaluation.metrics`.
        unit: `privacy.unit`.
        pairs: `model.item_to_item`.

    Returns:
        Rows with the keys `what`, `site`, `server`, `others`.
    """
    popularity = "each site's exact counts" if mode in _EXACT else _UPDATE[mode]
    popularity = popularity.replace("update", "counts")
    return [
        {
            "what": "interactions, ratings, times, user attributes",
            "site": "all of its own users",
            "server": "nothing",
            "others": "nothing",
        },
        {
            "what": f"gradients and updates of one {unit}, which {unit}s were sampled",
            "site": "its own, in memory only",
            "server": "nothing",
            "others": "nothing",
        },
        {
            "what": "adapter updates",
            "site": "its own",
            "server": _UPDATE[mode],
            "others": "the aggregated adapter",
        },
        {
            "what": "popularity of items",
            "site": "its own",
            "server": popularity,
            "others": "the sum over sites",
        },
        *(_pairs(popularity) if pairs else ()),
        *(_PRIVATE_METRICS if metrics == "private" else ()),
        {
            "what": "exact metrics",
            "site": "its own",
            "server": "lab only (simulation)",
            "others": "lab only (simulation)",
        },
        {
            "what": "metrics of groups of users",
            "site": "its own",
            "server": "nothing (a simulation's lab computes them)",
            "others": "nothing (a simulation's lab computes them)",
        },
    ]


def _pairs(popularity: str) -> tuple[dict[str, str]]:
    """As popularity: released once, by the same mechanism."""
    return (
        {
            "what": "co-occurrence of items",
            "site": "its own",
            "server": popularity,
            "others": "weights between items, made of the sum over sites",
        },
    )
