"""Real sites with real ledgers, made up for the audit in a folder that goes away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from client.agent import SiteAgent, agent_for, forget_agents
from client.app import app as client_app
from client.release import unit_popularity
from common.config import RunConfig
from common.errors import FederationError
from common.flat_adapter import Floats
from common.initial_adapter import adapter_shapes, initial_adapter
from common.loaded_recommender import loaded_recommender
from common.messages import SumRequest, TrainReply, TrainRequest
from common.progress import SilentListener
from common.secagg.quantisation import QuantisationPlan
from common.site_folder import INTERACTIONS_FILE, USERS_FILE, site_name
from common.sum_plan import popularity_plan
from server.reply_reading import ReplyReader
from server.sum_rounds import SumRounds
from simulations.audit.probes.case import TINY_ITEMS, TINY_USERS, on_tiny_model
from simulations.inprocess_grid import InProcessGrid
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset

RUN = "audit"
NO_PRIOR = np.zeros(0, dtype=np.float32)


class MadeUpSites:
    """A few sites of one run.

    Attributes:
        config: of their run.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def agent(self, number: int) -> SiteAgent:
        """The site's agent, with its own data, policy and ledger."""
        return agent_for({"partition-id": number}, self.config)

    def trained(self, number: int, server_round: int = 1) -> TrainReply:
        """What the site answers to the request of one round."""
        config = self.config
        request = TrainRequest(
            RUN, server_round, config.sha256(), initial_adapter(config), NO_PRIOR
        )
        return self.agent(number).train(request)

    def without_last_user(self, number: int) -> None:
        """Takes the last user out of the site's files; what it declares in public stays."""
        folder = Path(self.config.data.sites_folder) / site_name(number)
        last = parquet.read_table(folder / USERS_FILE)["user_id"].to_pylist()[-1]
        for name in (INTERACTIONS_FILE, USERS_FILE):
            table = parquet.read_table(folder / name)
            kept = compute.not_equal(table["user_id"], last)
            parquet.write_table(table.filter(kept), folder / name)

    def summed_popularity(self) -> tuple[Floats, Floats, QuantisationPlan]:
        """The decoded sum ``[V]`` of one secure round, the exact one, and the sum's plan."""
        config = self.config
        grid = InProcessGrid(client_app, config.data.sites, 5, config.to_flat())
        reader = ReplyReader(RUN, config.sha256(), adapter_shapes(config))
        sums = SumRounds(config, reader, SilentListener())
        sums.enrol(grid)
        plan = popularity_plan(config, sums.roster.items)
        request = SumRequest(
            run=RUN,
            server_round=0,
            config_sha256=config.sha256(),
            purpose="popularity",
            stage="advertise",
            participants=(),
            payload=b"",
            adapter={},
            item_prior=NO_PRIOR,
        )
        total, outcome = sums.add_up(grid, request, plan)
        if total is None:
            raise FederationError(f"the audit's own secure sum was abandoned: {outcome.fault}")
        agents = [self.agent(number) for number in range(config.data.sites)]
        exact = sum((unit_popularity(a.units, plan.coordinates) for a in agents), np.zeros(()))
        return total, exact, plan


@contextmanager
def made_up_sites(
    config: RunConfig, *, sites: int, users: int = TINY_USERS, items: int = TINY_ITEMS
) -> Iterator[MadeUpSites]:
    """`sites` sites with made-up users under the privacy of `config`, on the smallest model."""
    with tempfile.TemporaryDirectory(prefix="fedrec-audit-") as folder:
        run = on_tiny_model(config, sites=sites, folder=folder + "/sites")
        dataset = synthetic_dataset(users=users, items=items)
        write_site_folders(dataset, run.data, Path(run.data.sites_folder))
        forget_agents()
        try:
            yield MadeUpSites(run)
        finally:
            forget_agents()
            # Noise over a tiny divisor has thrown the process's model far off: set it back.
            loaded_recommender(run, dataset.catalogue, initial_adapter(run), NO_PRIOR)
