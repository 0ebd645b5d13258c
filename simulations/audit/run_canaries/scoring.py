"""What the server's sums of an audit run say of each canary, by who knows all but the coins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, vstack

from client.release import unit_popularity
from client.site_data import SiteData, load_site
from client.training_job import TrainingJob
from common.config import RunConfig
from common.context import ContextEncoder
from common.cooccurrence import MAX_LENGTH, cooccurrence_sum, related_items
from common.errors import EvidenceError
from common.flat_adapter import Floats
from common.holdout import UserSplit
from common.interactions import Catalogue
from common.privacy_units import Unit, make_units
from common.randomness import secure_source
from common.run_folder import RunFolder
from common.site_folder import site_name
from simulations.audit.probes.case import changed
from simulations.audit.run_canaries.weaving import PREFIX
from simulations.trainers import batch_trainer

_JOBS = 64  # canaries whose gradients are computed together
_COIN_VARIANCE = 0.25
_LEAST_VARIANCE = 1e-9

Matrix: TypeAlias = Any  # float32 [m, d], or scipy's sparse array, which has no type


@dataclass(frozen=True)
class Side:
    """Units of one side: a site's real users, or the canaries.

    Attributes:
        units: as training sees them.
        counted: as co-occurrence sees them.
    """

    units: Sequence[Unit]
    counted: Sequence[Unit]

    @classmethod
    def of(cls, splits: Sequence[UserSplit], config: RunConfig) -> Side:
        """The units that a site agent makes of these users."""
        encoder = ContextEncoder.of(config.model)
        units = make_units(splits, max_history=config.model.max_history, encoder=encoder)
        return cls(units, make_units(splits, max_history=MAX_LENGTH - 1))


@dataclass(frozen=True)
class Seen:
    """One sum as the server saw it, and what the canaries may have to do with it.

    Attributes:
        residual: ``[d]``: the sum, less what the real users are expected to bring.
        parts: ``[m, d]``: what each canary would bring, of norm C at most.
        rate: q at which units were sampled.
    """

    residual: Floats
    parts: Matrix
    rate: float


def real_sides(sites: Path, config: RunConfig) -> list[Side]:
    """Every site's units without the canaries."""
    found = []
    for number in range(config.data.sites):
        data: SiteData = load_site(sites / site_name(number))
        splits = data.splits(config.data.split, config.data.seed, config.data.cut)
        real = [split for split in splits if not split.user_id.startswith(PREFIX)]
        found.append(Side.of(real, config))
    return found


def seen_sums(
    folder: RunFolder,
    config: RunConfig,
    catalogue: Catalogue,
    real: Sequence[Side],
    canaries: Side,
) -> Iterator[Seen]:
    """Every sum that the run kept, one at a time: the parts of an update are large.

    Raises:
        EvidenceError: the run kept none.
    """
    kept = folder.read_sums()
    if not kept:
        raise EvidenceError(f"{folder.path} kept no sums to score its canaries by; run it again")
    for tensors, metadata in kept:
        purpose = metadata["purpose"]
        sums = _SUMS[purpose](config, catalogue, tensors, int(metadata["server_round"]))
        rate = config.privacy.sample_rate if purpose == "update" else 1.0
        background = np.sum([sums.whole(side) for side in real], axis=0)
        residual = np.asarray(tensors["total"], np.float64) - rate * background
        yield Seen(residual, sums.each(canaries), rate)


def scores(seen: Iterator[Seen], canaries: int) -> Floats:
    """An estimate of each coin less ½ ``[m]``: the linear one of least expected error.

    A sum is q·Σ bᵢgᵢ plus noise, with gᵢ what canary i brings. With each noise's variance v as
    it looks in the sum, the estimate of b − ½ solves
    (4·I + Σ q²·GGᵀ/v)·e = Σ q·G(x − ½q·Gᵀ1)/v over all sums.

    It reads no coin, so that any of its faults costs power and nothing else.
    """
    precision = np.eye(canaries) / _COIN_VARIANCE
    evidence = np.zeros(canaries)
    for each in seen:
        expected = each.rate * 0.5 * np.asarray(each.parts.sum(axis=0), np.float64)
        residual = each.residual - expected
        variance = max(float(np.mean(np.square(residual))), _LEAST_VARIANCE)
        gram = each.parts @ each.parts.T
        dense = gram.toarray() if isinstance(gram, csr_array) else gram
        precision += each.rate**2 * np.asarray(dense, np.float64) / variance
        evidence += each.rate * np.asarray(each.parts @ residual, np.float64) / variance
    return np.asarray(np.linalg.solve(precision, evidence))


@dataclass(frozen=True)
class _Popularity:
    config: RunConfig
    catalogue: Catalogue
    tensors: dict[str, Any]
    server_round: int

    def whole(self, side: Side) -> Floats:
        return unit_popularity(side.units, len(self.catalogue))

    def each(self, side: Side) -> Matrix:
        return _rows(lambda at: unit_popularity([side.units[at]], len(self.catalogue)), side)


class _Cooccurrence(_Popularity):
    def whole(self, side: Side) -> Floats:
        return self._sum(side.counted)

    def each(self, side: Side) -> Matrix:
        return _rows(lambda at: self._sum([side.counted[at]]), side)

    def _sum(self, units: Sequence[Unit]) -> Floats:
        model, size = self.config.model, len(self.catalogue)
        items = related_items(self.tensors["item_prior"], size, model.item_to_item_items)
        half_life = model.item_to_item_half_life
        return cooccurrence_sum(units, items, size, half_life=half_life, bounded=True)


class _Update(_Popularity):
    """Units draw their targets and negatives anew: what they bring is met on average."""

    def whole(self, side: Side) -> Floats:
        return self._sums([side.units])[0]

    def each(self, side: Side) -> Matrix:
        rows: list[npt.NDArray[np.float32]] = []
        for first in range(0, len(side.units), _JOBS):
            chunk = [[unit] for unit in side.units[first : first + _JOBS]]
            rows += [each.astype(np.float32) for each in self._sums(chunk)]
        return np.stack(rows)

    def _sums(self, groups: Sequence[Sequence[Unit]]) -> list[Floats]:
        config = changed(self.config, privacy={"sample_rate": 1.0})
        prefix = "adapter/"
        adapter = {n.removeprefix(prefix): t for n, t in self.tensors.items() if prefix in n}
        job = TrainingJob(
            site="audit",
            config=config,
            catalogue=self.catalogue,
            units=[],
            adapter=adapter,
            item_prior=self.tensors["item_prior"],
            server_round=self.server_round,
            expected_units=1.0,
            sampling=secure_source(),
            noise=None,
        )
        found = []
        for one in batch_trainer(config).exact_sums([replace(job, units=g) for g in groups]):
            if isinstance(one, Exception):
                raise one
            found.append(one)
        return found


_SUMS: dict[str, type[_Popularity]] = {
    "popularity": _Popularity,
    "cooccurrence": _Cooccurrence,
    "update": _Update,
}


def _rows(row: Callable[[int], Floats], side: Side) -> Matrix:
    rows = [csr_array(row(at)[None, :]) for at in range(len(side.units))]
    return vstack(rows, format="csr")
