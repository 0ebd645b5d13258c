"""Waiting for the run's sites to connect."""

from __future__ import annotations

import time

from flwr.serverapp.grid import Grid

from common.errors import FederationError
from common.progress import ProgressListener
from server.participants import count

NODE_POLL_S = 0.2


def wait_for_sites(
    grid: Grid, sites: int, deadline_s: float, least: int, listener: ProgressListener
) -> None:
    """Waits until `sites` nodes are connected; Flower alone would wait for ever.

    Args:
        grid: the grid of the run.
        sites: `data.sites`.
        deadline_s: seconds to wait at most.
        least: nodes that are enough at the deadline; the others may join later.
        listener: hears of a start without all.

    Raises:
        FederationError: Fewer than `least` nodes are there at the deadline, or too many.
    """
    end = time.monotonic() + deadline_s
    while (nodes := count(grid.get_node_ids())) < sites and time.monotonic() < end:
        time.sleep(min(NODE_POLL_S, deadline_s))
    if nodes > sites or nodes < least:
        within = f" within {deadline_s:g} s, {least} are needed" if nodes < sites else ""
        raise FederationError(
            f"{nodes} of data.sites={sites} sites appeared{within}; connect as many nodes as "
            f"data.sites says (flwr run . --federation-config 'num-supernodes={sites}')"
        )
    if nodes < sites:
        listener.message(f"starting with {nodes} of {sites} sites; the others may join later")
