"""What the report says of secure aggregation comes from the run's own records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.flat_adapter import size
from common.initial_adapter import adapter_shapes
from common.privacy_events import event_to_dict
from common.release_record import ReleaseRecord
from common.run_folder import RunFolder
from common.sum_plan import update_plan
from simulations.report.run_files import read_run
from simulations.report.secure_sum import secure_sum_lines


def test_other_modes_have_nothing_to_say(make_run: Callable[..., Path]) -> None:
    assert secure_sum_lines(read_run(make_run())) == []


def test_thresholds_plan_and_fate_of_the_sums_are_told(make_run: Callable[..., Path]) -> None:
    path = make_run({"privacy": {"mode": "distributed"}})
    folder = RunFolder.open(path)
    config = folder.read_config()
    plan = update_plan(config, size(adapter_shapes(config)))
    first = ReleaseRecord.model_validate(folder.read_releases()[0])
    changes = {
        "kind": "update",
        "mode": "distributed",
        "mechanism": "discrete_gaussian",
        "event": event_to_dict(plan.event(1.0)),
    }
    folder.append_release(first.model_copy(update=changes).model_dump(mode="json"))
    folder.append_round(folder.read_rounds()[-1] | {"server_round": 7, "fault": "too few sites"})
    thresholds, told, sums, sent = secure_sum_lines(read_run(path))
    assert "4 sites, of which 1 may vanish in a round and 1 may help" in thresholds
    assert "shared among 2 honest sites" in thresholds
    assert told == f"update: {plan.describe()}"
    assert "1 abandoned" in sums
    assert "a site sent" in sent
