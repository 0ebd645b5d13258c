"""Who must be trusted for a run's claim, one wording for every output."""

from __future__ import annotations

from common.config import RunConfig

_TRUSTED = {
    "none": "everybody: nothing is protected",
    "local": "only the user's own site, which adds the noise in full",
    "distributed": "the user's own site, and that at least {honest} of {sites} sites follow the "
    "protocol (the server is not trusted)",
    "central": "the user's own site and the server, which adds the noise",
}


def trusted_text(config: RunConfig) -> str:
    """Say who must be trusted for the claim of a run with this configuration."""
    text = _TRUSTED[config.privacy.mode]
    # The colluders that a round withstands add no noise; the honest ones do.
    return text.format(honest=config.min_honest, sites=config.data.sites)
