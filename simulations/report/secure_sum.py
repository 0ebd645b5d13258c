"""What secure aggregation was set to withstand, and what became of its rounds."""

from __future__ import annotations

from common.privacy_events import DistributedGaussianEvent, event_from_dict
from common.release_record import ReleaseRecord
from common.sum_plan import cooccurrence_plan, popularity_plan, update_plan
from simulations.report.number_text import bytes_text
from simulations.report.run_files import RunFiles

_STATISTICS = {"popularity": popularity_plan, "cooccurrence": cooccurrence_plan}


def secure_sum_lines(run: RunFiles) -> list[str]:
    """Say what the sums of a run rest on; nothing in other modes than `distributed`."""
    config = run.config
    if config.privacy.mode != "distributed":
        return []
    privacy, sites = config.privacy, config.data.sites
    lines = [
        f"{sites} sites, of which {config.max_dropouts} may vanish in a round and "
        f"{privacy.max_colluders} may help a lying server; the noise is shared among "
        f"{config.min_honest} honest sites, and what more of them add is not credited",
        *_plans(run),
    ]
    asked = [record for record in run.rounds if record.sites]
    abandoned = sum(record.fault is not None for record in asked)
    lost = sum(site.status != "ok" for record in asked for site in record.sites)
    lines.append(f"{len(asked)} sums: {abandoned} abandoned, {lost} parts of sites missing")
    sizes = [site.bytes_up for record in asked for site in record.sites if site.status == "ok"]
    if sizes:
        lines.append(f"a site sent {bytes_text(max(sizes))} for a sum at most, all stages together")
    return lines


def _plans(run: RunFiles) -> list[str]:
    """The plan of each kind of sum; the numbers summed are those of the records."""
    lines, told = [], set[str]()
    for record in run.releases:
        coordinates = _coordinates(record)
        if coordinates is None or record.kind in told:
            continue
        told.add(record.kind)
        make = _STATISTICS.get(record.kind, update_plan)
        lines.append(f"{record.kind}: {make(run.config, coordinates).describe()}")
    return lines


def _coordinates(record: ReleaseRecord) -> int | None:
    event = None if record.event is None else event_from_dict(record.event)
    return event.coordinates if isinstance(event, DistributedGaussianEvent) else None
