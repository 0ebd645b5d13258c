"""What a run's adapter must be, from its record of who took part and the marked seeds alone.

No server, no message, no mask, no ledger: every site's part is computed again from its data and
its seeded randomness, the parts of the sites that the record calls ``ok`` are added up, and the
server's step is taken. The parts of a sum are whole numbers, so that equality is bit for bit;
means are exact in any order (`server.aggregation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.release import noisy_popularity, unit_popularity
from client.site_by_site import SITE_BY_SITE
from client.site_data import load_site
from client.site_training import SiteTraining
from common.adapters import Adapter, adapter_sha256, shapes
from common.config import RunConfig
from common.context import ContextEncoder
from common.discrete_noise import discrete_gaussian, masked_sum_input
from common.flat_adapter import Floats, size
from common.initial_adapter import initial_adapter
from common.item_prior import item_prior_from_counts
from common.messages import SumPurpose, SumRequest, TrainRequest
from common.noise_plan import popularity_deviation, popularity_event
from common.privacy_units import make_units
from common.randomness import RandomSource, seeded_source
from common.release_record import COUNTS_TENSOR, counts_payload
from common.secagg.modular import from_signed, reduce
from common.secagg.quantisation import QuantisationPlan, dequantise, quantise
from common.sum_plan import popularity_plan, update_plan
from server.aggregation import WeightedSum
from server.server_optimizer import OptimizerState, server_step
from server.summed_steps import update_of_sum

Line = Mapping[str, Any]


class _Site:
    """One site's data and seeded randomness."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        data = load_site(folder)
        splits = data.splits(config.data.split, config.data.seed, config.data.cut)
        self.items = len(data.catalogue)
        self.declared = data.declared(config.privacy.unit)
        self.units = make_units(
            splits,
            max_history=config.model.max_history,
            unit=config.privacy.unit,
            encoder=ContextEncoder.of(config.model),
        )
        self._seed, self._name = config.federation.seed, data.site
        self.training = SiteTraining(data, config, self.units, self._by_round, SITE_BY_SITE)

    def source(self, purpose: str, server_round: int) -> RandomSource:
        return seeded_source(self._seed, self._name, str(server_round), purpose)

    def _by_round(self, purpose: str, server_round: int) -> RandomSource:
        return self.source(purpose, server_round)


class Recomputed:
    """The adapter after every line of a run's record."""

    def __init__(self, config: RunConfig, sites: Sequence[Path]) -> None:
        """`sites` are folders of simulated sites with the same data and names."""
        self._config = config
        self._sites = {path.name: _Site(path, config) for path in sites}
        self.adapter: Adapter = initial_adapter(config)
        self._state = OptimizerState()
        self._prior: npt.NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def follow(self, lines: Sequence[Line]) -> list[str | None]:
        """The adapter's SHA-256 after each line; None for those before training."""
        found: list[str | None] = []
        for line in lines:
            ok = sorted(each["site"] for each in line["sites"] if each["status"] == "ok")
            server_round = int(line["server_round"])
            if line["fault"] is None:
                self._follow(server_round, ok)
            found.append(adapter_sha256(self.adapter) if server_round else None)
        return found

    def _follow(self, server_round: int, ok: Sequence[str]) -> None:
        if server_round == 0:
            deviation = popularity_deviation(self._config, len(ok))
            self._prior = item_prior_from_counts(self._counts(ok), deviation)
            return
        update = self._update(server_round, ok)
        federation = self._config.federation
        self.adapter, self._state = server_step(self.adapter, update, self._state, federation)

    def _counts(self, ok: Sequence[str]) -> Floats:
        if self._config.is_summed:
            items = self._sites[ok[0]].items
            return self._sum("popularity", 0, ok, popularity_plan(self._config, items))
        event, total = popularity_event(self._config), WeightedSum()
        assert event is not None
        for name in ok:
            site = self._sites[name]
            counts = noisy_popularity(
                site.units,
                site.items,
                noise_multiplier=event.noise_multiplier,
                noise=site.source("popularity", 0),
            )
            total.add(name, counts_payload(counts), 1)
        return total.totals()[COUNTS_TENSOR]

    def _update(self, server_round: int, ok: Sequence[str]) -> Adapter:
        config, adapter = self._config, self.adapter
        if config.is_summed:
            plan = update_plan(config, size(shapes(adapter)))
            total = self._sum("update", server_round, ok, plan)
            declared = sum(self._sites[name].declared for name in ok)
            expected = declared * config.privacy.sample_rate
            return update_of_sum(total, shapes(adapter), config, server_round, expected)
        mean = WeightedSum()
        for name in ok:
            request = TrainRequest("", server_round, "", adapter, self._prior)
            mean.add(name, self._sites[name].training.update(request), 1)
        return mean.mean()

    def _sum(
        self, purpose: SumPurpose, server_round: int, ok: Sequence[str], plan: QuantisationPlan
    ) -> Floats:
        """Of whole numbers modulo 2^k, with all the noise."""
        central = self._config.privacy.mode == "central"
        total = np.zeros(plan.coordinates, dtype=np.uint64)
        for name in ok:
            site = self._sites[name]
            values, source = (
                self._part(site, purpose, server_round),
                site.source(f"noise:{purpose}", server_round),
            )
            if central:
                whole = quantise(values, source.uniform(plan.coordinates), plan)
                total = total + from_signed(whole, plan.modulus_bits)
            else:
                total = total + masked_sum_input(values, plan, source)
        if central:
            seed = self._config.federation.seed
            source = seeded_source(seed, "server", purpose, str(server_round))
            noise = discrete_gaussian(plan.share_std, plan.coordinates, source)
            total = total + from_signed(noise, plan.modulus_bits)
        return dequantise(reduce(total, plan.modulus_bits), plan)

    def _part(self, site: _Site, purpose: SumPurpose, server_round: int) -> Floats:
        if purpose == "popularity":
            return unit_popularity(site.units, site.items)
        request = SumRequest(
            run="",
            server_round=server_round,
            config_sha256="",
            purpose=purpose,
            stage="exact",
            participants=(),
            payload=b"",
            adapter=self.adapter,
            item_prior=self._prior,
        )
        return site.training.exact_sum(request)
