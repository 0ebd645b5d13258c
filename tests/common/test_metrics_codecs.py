from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

from common.errors import MessageError
from common.messages import (
    NoisedMetricsReply,
    decode_evaluate_reply,
    decode_noised_metrics_reply,
    encode_noised_metrics_reply,
)
from common.privacy_events import GaussianEvent, event_to_dict
from tests.scripted_sites import release_record

SHA = "a" * 64
SUMS = np.array([-3.25, 0.5, 1e6, -0.125, 7.5, 0.0], dtype=np.float32)
ASKED = {"run": "run", "server_round": 3, "config_sha256": SHA}


def reply(sums: np.ndarray[Any, Any] = SUMS, stage: str = "test", **release: Any) -> RecordDict:
    stated = {
        "server_round": 3,
        "kind": "metrics",
        "mechanism": "gaussian",
        "sampling": "full",
        "event": event_to_dict(GaussianEvent(4.0)),
    } | release
    record = release_record("site-0000", {f"metrics.{stage}": sums}, **stated)
    sent = NoisedMetricsReply("site-0000", 3, SHA, stage, sums, record, 94)  # type: ignore[arg-type]
    return encode_noised_metrics_reply(sent)


def test_noised_sums_survive_the_wire_also_below_zero() -> None:
    content = recorddict_from_proto(recorddict_to_proto(reply()))
    decoded = decode_noised_metrics_reply(content, **ASKED, stage="test")  # type: ignore[arg-type]
    assert np.array_equal(decoded.sums, SUMS)
    assert (decoded.site, decoded.stage, decoded.declared_units) == ("site-0000", "test", 94)
    assert decoded.release.kind == "metrics"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (reply(stage="validation"), "metrics.validation"),
        (reply(SUMS[:5]), "shape"),
        (reply(SUMS.astype(np.float32), payload_sha256="0" * 64), "payload_sha256"),
        (reply(mechanism="exact_lab_only", event=None), "expected gaussian"),
        (reply(kind="update"), "describes"),
        (reply(server_round=2), "describes"),
    ],
)
def test_what_was_not_asked_for_is_refused(content: RecordDict, said: str) -> None:
    with pytest.raises(MessageError, match=said):
        decode_noised_metrics_reply(content, **ASKED, stage="test")  # type: ignore[arg-type]


def test_private_and_exact_replies_are_never_taken_for_one_another() -> None:
    with pytest.raises(MessageError, match="expected a 'evaluate_reply'"):
        decode_evaluate_reply(reply(), **ASKED)  # type: ignore[arg-type]
