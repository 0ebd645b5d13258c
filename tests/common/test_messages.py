from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.adapters import Adapter, shapes
from common.errors import MessageError
from common.message_records import TENSOR_FORMAT, read_arrays, write_arrays
from common.messages import (
    CooccurrenceReply,
    CooccurrenceRequest,
    EvaluateReply,
    EvaluateRequest,
    PopularityReply,
    PopularityRequest,
    RefusalReply,
    TrainReply,
    TrainRequest,
    cells_payload,
    decode_cooccurrence_reply,
    decode_cooccurrence_request,
    decode_evaluate_reply,
    decode_evaluate_request,
    decode_popularity_reply,
    decode_popularity_request,
    decode_refusal,
    decode_train_reply,
    decode_train_request,
    encode_cooccurrence_reply,
    encode_cooccurrence_request,
    encode_evaluate_reply,
    encode_evaluate_request,
    encode_popularity_reply,
    encode_popularity_request,
    encode_refusal,
    encode_train_reply,
    encode_train_request,
    is_refusal,
)
from common.metrics import MetricSums
from common.release_record import counts_payload
from tests.scripted_sites import release_record, small_adapter

SHA = "a" * 64
PRIOR = np.linspace(-1, 1, 7, dtype=np.float32)
SHAPES = shapes(small_adapter())


def train_request() -> RecordDict:
    return encode_train_request(TrainRequest("run", 3, SHA, small_adapter(1.5), PRIOR))


def train_reply(update: Adapter | None = None, **release: Any) -> RecordDict:
    sent = small_adapter(0.25) if update is None else update
    record = release_record("site-0000", sent, server_round=3, **release)
    return encode_train_reply(TrainReply("site-0000", 3, SHA, sent, record, 94))


def popularity_reply() -> RecordDict:
    counts = np.arange(4, dtype=np.float32)
    release = release_record("s.1", counts_payload(counts), server_round=0, kind="popularity")
    return encode_popularity_reply(PopularityReply("s.1", SHA, counts, release, 12))


def cooccurrence_reply() -> RecordDict:
    cells = np.arange(6, dtype=np.float32)
    release = release_record("s.1", cells_payload(cells), server_round=0, kind="cooccurrence")
    return encode_cooccurrence_reply(CooccurrenceReply("s.1", SHA, cells, release, 12))


def evaluate_request(stage: Any = "validation", cells: int = 3) -> RecordDict:
    weights = np.linspace(0, 2, cells, dtype=np.float32)
    request = EvaluateRequest("run", 3, SHA, small_adapter(2.0), PRIOR, stage, weights)
    return encode_evaluate_request(request)


def evaluate_reply(**sums: Any) -> RecordDict:
    values: dict[str, Any] = {"users": 9, "hr_10": 3.0, "hr_20": 4.0, "ndcg_10": 1.25}
    values |= {"ndcg_20": 2.0, "mrr": 0.5} | sums
    release = release_record(
        "s", {}, server_round=3, kind="metrics", mechanism="exact_lab_only", sampling="none"
    )
    return encode_evaluate_reply(EvaluateReply("s", 3, SHA, MetricSums(**values), release))


def refusal() -> RecordDict:
    return encode_refusal(RefusalReply("site-0000", 3, "BudgetRefusal", "ε passes 8"))


def decode(content: RecordDict, name: str) -> Any:
    """Every decoder, with what the receiver of these tests expects."""
    decoders: dict[str, Callable[[RecordDict], Any]] = {
        "train_request": lambda c: decode_train_request(c, config_sha256=SHA, shapes=SHAPES),
        "train_reply": lambda c: decode_train_reply(
            c, run="run", server_round=3, config_sha256=SHA, shapes=SHAPES
        ),
        "popularity_request": lambda c: decode_popularity_request(c, config_sha256=SHA),
        "popularity_reply": lambda c: decode_popularity_reply(c, run="run", config_sha256=SHA),
        "cooccurrence_request": lambda c: decode_cooccurrence_request(c, config_sha256=SHA),
        "cooccurrence_reply": lambda c: decode_cooccurrence_reply(
            c, run="run", config_sha256=SHA, cells=6
        ),
        "evaluate_request": lambda c: decode_evaluate_request(c, config_sha256=SHA, shapes=SHAPES),
        "evaluate_reply": lambda c: decode_evaluate_reply(
            c, run="run", server_round=3, config_sha256=SHA
        ),
        "refusal": lambda c: decode_refusal(c, server_round=3),
    }
    return decoders[name](content)


GOOD: dict[str, Callable[[], RecordDict]] = {
    "train_request": train_request,
    "train_reply": train_reply,
    "popularity_request": lambda: encode_popularity_request(PopularityRequest("run", SHA)),
    "popularity_reply": popularity_reply,
    "cooccurrence_request": lambda: encode_cooccurrence_request(
        CooccurrenceRequest("run", SHA, PRIOR)
    ),
    "cooccurrence_reply": cooccurrence_reply,
    "evaluate_request": evaluate_request,
    "evaluate_reply": evaluate_reply,
    "refusal": refusal,
}


def over_the_wire(content: RecordDict) -> RecordDict:
    """Through Flower's own protobuf, as between machines."""
    return recorddict_from_proto(recorddict_to_proto(content))


def assert_same(left: Any, right: Any) -> None:
    for name, value in vars(left).items():
        other = vars(right)[name]
        if isinstance(value, dict):
            assert list(value) == sorted(other)
            for key, array in value.items():
                np.testing.assert_array_equal(array, other[key])
                assert array.dtype == np.float32
                assert array.shape == other[key].shape
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other)
        else:
            assert value == other


@pytest.mark.parametrize("name", GOOD)
def test_a_message_survives_the_wire(name: str) -> None:
    direct = decode(GOOD[name](), name)
    assert_same(decode(over_the_wire(GOOD[name]()), name), direct)


def test_a_train_request_keeps_every_number() -> None:
    request = decode(over_the_wire(train_request()), "train_request")
    assert_same(request, TrainRequest("run", 3, SHA, small_adapter(1.5), PRIOR))


def test_decoded_tensors_are_writable_copies() -> None:
    request = decode(train_request(), "train_request")
    request.adapter["head.weight"][0, 0] = 7.0
    assert request.adapter["head.weight"][0, 0] == 7.0


def test_a_request_may_carry_no_prior() -> None:
    empty = np.zeros(0, dtype=np.float32)
    content = encode_train_request(TrainRequest("run", 3, SHA, small_adapter(), empty))
    assert decode(content, "train_request").item_prior.shape == (0,)


def test_only_an_evaluation_carries_the_weights_between_items() -> None:
    assert decode(evaluate_request(cells=3), "evaluate_request").item_to_item.tolist() == [0, 1, 2]
    assert "item_to_item" not in evaluate_request(cells=0).array_records
    assert len(decode(evaluate_request(cells=0), "evaluate_request").item_to_item) == 0
    assert "item_to_item" not in train_request().array_records


def test_cells_of_another_catalogue_are_refused() -> None:
    with pytest.raises(MessageError, match=r"6 cells, 10 are expected; give all sites the same"):
        decode_cooccurrence_reply(cooccurrence_reply(), run="run", config_sha256=SHA, cells=10)


def test_a_nan_in_an_update_is_no_message_error() -> None:
    reply = decode(over_the_wire(train_reply(small_adapter(float("nan")))), "train_reply")
    assert np.isnan(reply.update["head.weight"]).all()


def test_sending_another_dtype_is_refused() -> None:
    adapter: Any = {"w": np.zeros(3)}
    with pytest.raises(MessageError, match="dtype float64"):
        write_arrays(adapter)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("other", GOOD)
def test_one_message_is_never_read_as_another(name: str, other: str) -> None:
    if name != other:
        with pytest.raises(MessageError, match="expected a"):
            decode(GOOD[name](), other)


def test_only_a_refusal_is_a_refusal() -> None:
    assert [name for name in GOOD if is_refusal(GOOD[name]())] == ["refusal"]
    assert not is_refusal(RecordDict())


def _fields() -> list[tuple[str, str]]:
    return [(name, key) for name in GOOD for key in GOOD[name]().config_records["meta"]]


@pytest.mark.parametrize(("name", "key"), _fields())
def test_a_missing_field_is_refused(name: str, key: str) -> None:
    content = GOOD[name]()
    del content.config_records["meta"][key]
    with pytest.raises(MessageError):
        decode(content, name)


@pytest.mark.parametrize(("name", "key"), _fields())
def test_a_field_of_another_type_is_refused(name: str, key: str) -> None:
    content = GOOD[name]()
    for wrong in (b"bytes", [1, 2], True):
        content.config_records["meta"][key] = wrong
        with pytest.raises(MessageError):
            decode(content, name)


@pytest.mark.parametrize("name", GOOD)
def test_surplus_fields_and_records_are_refused(name: str) -> None:
    content = GOOD[name]()
    content.config_records["meta"]["count"] = 17
    with pytest.raises(MessageError, match="surplus keys"):
        decode(content, name)
    for record in (ArrayRecord(), MetricRecord({"loss": 0.5}), ConfigRecord()):
        content = GOOD[name]()
        content["more"] = record
        with pytest.raises(MessageError, match="surplus keys"):
            decode(content, name)


@pytest.mark.parametrize("name", ["train_request", "train_reply", "evaluate_request"])
def test_another_configuration_or_version_is_refused(name: str) -> None:
    for key, value in (("config_sha256", "b" * 64), ("schema_version", 2)):
        content = GOOD[name]()
        content.config_records["meta"][key] = value
        with pytest.raises(MessageError, match=key):
            decode(content, name)


def test_a_reply_of_another_round_is_refused() -> None:
    for name in ("train_reply", "evaluate_reply", "refusal"):
        content = GOOD[name]()
        content.config_records["meta"]["server_round"] = 2
        with pytest.raises(MessageError, match="server_round"):
            decode(content, name)


def _with_array(name: str, record: str, key: str, array: Array) -> RecordDict:
    content = GOOD[name]()
    content.array_records[record][key] = array
    return content


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (3, 2), TENSOR_FORMAT, bytes(24)),
        Array("float32", (2, 3, 1), TENSOR_FORMAT, bytes(24)),
        Array("float32", (-2, -3), TENSOR_FORMAT, bytes(24)),
        Array("float64", (2, 3), TENSOR_FORMAT, bytes(48)),
        Array("float32", (2, 3), TENSOR_FORMAT, bytes(23)),
        Array("float32", (2, 3), TENSOR_FORMAT, bytes(10_000)),
        Array("float32", (10**9, 10**9), TENSOR_FORMAT, bytes(24)),
        Array(np.zeros((2, 3), dtype=np.float32)),
        Array("object", (2, 3), "pickle", b"cos\nsystem\n(S'true'\ntR."),
    ],
)
def test_a_tensor_that_is_not_as_agreed_is_refused(array: Array) -> None:
    for name, record in (("train_request", "adapter"), ("train_reply", "update")):
        with pytest.raises(MessageError, match=r"head\.weight"):
            decode(_with_array(name, record, "head.weight", array), name)


@pytest.mark.parametrize("shape", [(2, 2), (), (10**8,), (-1,)])
def test_a_prior_that_is_no_vector_over_items_is_refused(shape: tuple[int, ...]) -> None:
    array = Array("float32", shape, TENSOR_FORMAT, bytes(16))
    with pytest.raises(MessageError, match="item_prior"):
        decode(_with_array("train_request", "item_prior", "item_prior", array), "train_request")


def test_other_tensor_names_are_refused() -> None:
    extra = Array("float32", (1,), TENSOR_FORMAT, bytes(4))
    with pytest.raises(MessageError, match="surplus"):
        decode(_with_array("train_reply", "update", "head.more", extra), "train_reply")
    content = train_reply()
    del content.array_records["update"]["head.weight"]
    with pytest.raises(MessageError, match="missing"):
        decode(content, "train_reply")


@pytest.mark.parametrize("site", ["", "../../etc", "a/b", "site\n0", "ß", "x" * 101, "-rf"])
def test_a_site_name_that_cannot_name_a_file_is_refused(site: str) -> None:
    for name in ("train_reply", "popularity_reply", "evaluate_reply"):
        content = GOOD[name]()
        content.config_records["meta"]["site"] = site
        with pytest.raises(MessageError, match="site name"):
            decode(content, name)


@pytest.mark.parametrize(
    "release",
    [
        {"run": "other"},
        {"kind": "popularity"},
        {"site": "site-0001"},
        {"tensors": ["head.weight"]},
        {"payload_sha256": "0" * 64},
    ],
)
def test_a_release_record_of_something_else_is_refused(release: dict[str, Any]) -> None:
    site = release.pop("site", "site-0000")
    sent = small_adapter(0.25)
    record = release_record(site, sent, **{"server_round": 3} | release)
    content = encode_train_reply(TrainReply("site-0000", 3, SHA, sent, record, 94))
    with pytest.raises(MessageError, match="release record"):
        decode(content, "train_reply")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"site": "s"}', "null", "NaN", "[" * 50_000])
def test_a_broken_release_record_is_one_line(text: str) -> None:
    content = train_reply()
    content.config_records["meta"]["release"] = text
    with pytest.raises(MessageError, match="release record") as fault:
        decode(content, "train_reply")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    "event",
    [
        '{"x": NaN}',
        '{"event": "gaussian", "noise_multiplier": NaN, "count": 1}',
        '{"event": "gaussian", "noise_multiplier": 0, "count": 1}',
        '{"event": "laplace", "scale": 1.0}',
        '{"event": "composed", "events": [{"event": "gaussian"}]}',
        '{"event": "composed", "events": [' * 150 + "1" + "]}" * 150,
    ],
)
def test_an_event_that_no_accountant_knows_is_refused(event: str) -> None:
    content = train_reply()
    release = str(content.config_records["meta"]["release"])
    content.config_records["meta"]["release"] = release.replace('"event":null', f'"event":{event}')
    with pytest.raises(MessageError, match="release record") as fault:
        decode(content, "train_reply")
    assert "\n" not in str(fault.value)


def test_a_known_event_is_kept() -> None:
    event = {"event": "sampled_gaussian", "noise_multiplier": 1.5, "sample_rate": 0.5, "steps": 1}
    reply = decode(over_the_wire(train_reply(event=event)), "train_reply")
    assert reply.release.event == event


@pytest.mark.parametrize("units", [0, -5, 10**13])
def test_impossible_declared_units_are_refused(units: int) -> None:
    content = train_reply()
    content.config_records["meta"]["declared_units"] = units
    with pytest.raises(MessageError, match="declared_units"):
        decode(content, "train_reply")


@pytest.mark.parametrize(
    ("field", "value"),
    [("hr_10", 9.5), ("mrr", -0.1), ("ndcg_10", float("nan")), ("hr_20", float("inf"))],
)
def test_metric_sums_outside_their_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(MessageError, match=field):
        decode(evaluate_reply(**{field: value}), "evaluate_reply")


def test_metric_sums_of_no_user_are_fine() -> None:
    zeros = {"hr_10": 0.0, "hr_20": 0.0, "ndcg_10": 0.0, "ndcg_20": 0.0, "mrr": 0.0}
    assert decode(evaluate_reply(users=0, **zeros), "evaluate_reply").sums.users == 0


def test_a_stage_is_validation_or_test() -> None:
    assert decode(evaluate_request("test"), "evaluate_request").stage == "test"
    with pytest.raises(MessageError, match="stage"):
        decode(evaluate_request("train"), "evaluate_request")


def test_a_refusal_is_cut_and_its_code_is_a_name() -> None:
    long = encode_refusal(RefusalReply("", 3, "DataError", "x" * 10_000))
    assert len(decode(long, "refusal").reason) == 2000
    content = refusal()
    content.config_records["meta"]["code"] = "rm -rf"
    with pytest.raises(MessageError, match="code"):
        decode(content, "refusal")


@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=12),
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
            elements=st.floats(width=32),
        ),
        max_size=4,
    )
)
@settings(deadline=None)
def test_any_float32_tensor_survives(arrays: Adapter) -> None:
    sent = over_the_wire(RecordDict({"x": write_arrays(arrays)})).array_records["x"]
    got = read_arrays(sent, shapes(arrays))
    assert sorted(got) == sorted(arrays)
    for name, array in arrays.items():
        assert got[name].tobytes() == array.tobytes()


def fault_of(content: RecordDict, name: str) -> str:
    """The line of the MessageError, or nothing when the record is fine."""
    try:
        decode(content, name)
    except MessageError as fault:
        return str(fault)
    return ""


SCALARS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.booleans(),
    st.binary(max_size=20),
    st.text(max_size=40),
    st.sampled_from(["train_reply", "refusal", SHA, "run", "site-0000"]),
)
META = st.dictionaries(
    st.sampled_from([key for _, key in _fields()]) | st.text(max_size=8), SCALARS, max_size=12
)
ARRAYS = st.dictionaries(
    st.sampled_from(["head.weight", "score.scale", "item_prior", "counts"]) | st.text(max_size=5),
    st.builds(
        Array,
        st.sampled_from(["float32", "float64", "object"]) | st.text(max_size=5),
        st.lists(st.integers(-3, 2**40), max_size=3).map(tuple) | st.just((2, 3)),
        st.sampled_from([TENSOR_FORMAT, "numpy.ndarray"]),
        st.binary(max_size=30),
    ),
    max_size=3,
)


@given(
    name=st.sampled_from(sorted(GOOD)),
    meta=META,
    arrays=st.dictionaries(
        st.sampled_from(["adapter", "update", "item_prior", "counts", "meta", "x"]),
        ARRAYS,
        max_size=3,
    ),
    keep=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_no_record_breaks_a_decoder(
    name: str, meta: dict[str, Any], arrays: dict[str, dict[str, Array]], keep: bool
) -> None:
    content = GOOD[name]() if keep else RecordDict()
    for record, values in arrays.items():
        content[record] = ArrayRecord(values)
    start = dict(content.config_records.get("meta", {})) if keep else {}
    if "meta" not in arrays:
        content["meta"] = ConfigRecord(start | meta)
    assert "\n" not in fault_of(content, name)
