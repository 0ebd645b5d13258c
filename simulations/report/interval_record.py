"""What every record of `metrics.json` is made of: strictness, and a figure with its interval."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict

from simulations.evaluation.intervals import Interval


class Record(BaseModel):
    """A frozen part of the file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IntervalRecord(Record):
    """A figure over users with its 95% interval; bounds are null where there is none."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> IntervalRecord:
        """Turn an interval into its record: a bound that is NaN becomes null."""
        low = None if math.isnan(interval.low) else interval.low
        high = None if math.isnan(interval.high) else interval.high
        return cls(mean=interval.mean, low=low, high=high)


class GroupRecord(Record):
    """Mean NDCG@10 of one group of `n` users."""

    group: str
    n: int
    utility: IntervalRecord
