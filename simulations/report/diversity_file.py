"""`diversity.json`: what variety of a run's lists costs, by ``fedrec diversity RUN``."""

from __future__ import annotations

from typing import Literal

from simulations.report.interval_record import IntervalRecord, Record

DIVERSITY_FILE = "diversity.json"


class CurveRecord(Record):
    """One way to vary lists at one strength; see `simulations.diversity.curve.CurvePoint`."""

    method: Literal["plain", "mmr", "calibrated", "popularity", "cap"]
    strength: float
    ndcg: IntervalRecord
    difference: IntervalRecord
    distance: IntervalRecord
    miscalibration: IntervalRecord
    coverage: IntervalRecord
    exposure_gini: IntervalRecord


class DiversityFile(Record):
    """All ways and strengths, the plain lists first, over one part of the hold-out."""

    schema_version: Literal[1] = 1
    stage: Literal["validation", "test"]
    points: tuple[CurveRecord, ...]
