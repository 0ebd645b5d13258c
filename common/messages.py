"""The contract between server and sites: typed messages and their codecs.

`encode_x` turns a message into a Flower RecordDict; `decode_x` reads one and checks, against
what the receiver expects, its record names, keys, types, shapes, dtypes, sizes, round and
configuration hash. Whatever is not as agreed raises `common.errors.MessageError`.
"""

from __future__ import annotations

from common.cooccurrence_codecs import (
    cells_payload,
    decode_cooccurrence_reply,
    decode_cooccurrence_request,
    encode_cooccurrence_reply,
    encode_cooccurrence_request,
)
from common.message_types import (
    POPULARITY_ROUND,
    CooccurrenceReply,
    CooccurrenceRequest,
    EnrolReply,
    EnrolRequest,
    EvaluateReply,
    EvaluateRequest,
    NoisedMetricsReply,
    PopularityReply,
    PopularityRequest,
    RefusalReply,
    Stage,
    SumPurpose,
    SumReply,
    SumRequest,
    SumStage,
    TrainReply,
    TrainRequest,
)
from common.metrics_codecs import (
    decode_noised_metrics_reply,
    encode_noised_metrics_reply,
)
from common.reply_codecs import (
    decode_evaluate_reply,
    decode_popularity_reply,
    decode_refusal,
    decode_train_reply,
    encode_evaluate_reply,
    encode_popularity_reply,
    encode_refusal,
    encode_train_reply,
    is_refusal,
)
from common.request_codecs import (
    decode_evaluate_request,
    decode_popularity_request,
    decode_train_request,
    encode_evaluate_request,
    encode_popularity_request,
    encode_train_request,
)
from common.sum_codecs import (
    RELEASING,
    decode_enrol_reply,
    decode_enrol_request,
    decode_sum_reply,
    decode_sum_request,
    encode_enrol_reply,
    encode_enrol_request,
    encode_sum_reply,
    encode_sum_request,
)

POPULARITY_QUERY = "query.popularity"
COOCCURRENCE_QUERY = "query.cooccurrence"
ENROL_QUERY = "query.enrol"
SUM_QUERY = "query.sum"

__all__ = [
    "COOCCURRENCE_QUERY",
    "ENROL_QUERY",
    "POPULARITY_QUERY",
    "POPULARITY_ROUND",
    "RELEASING",
    "SUM_QUERY",
    "CooccurrenceReply",
    "CooccurrenceRequest",
    "EnrolReply",
    "EnrolRequest",
    "EvaluateReply",
    "EvaluateRequest",
    "NoisedMetricsReply",
    "PopularityReply",
    "PopularityRequest",
    "RefusalReply",
    "Stage",
    "SumPurpose",
    "SumReply",
    "SumRequest",
    "SumStage",
    "TrainReply",
    "TrainRequest",
    "cells_payload",
    "decode_cooccurrence_reply",
    "decode_cooccurrence_request",
    "decode_enrol_reply",
    "decode_enrol_request",
    "decode_evaluate_reply",
    "decode_evaluate_request",
    "decode_noised_metrics_reply",
    "decode_popularity_reply",
    "decode_popularity_request",
    "decode_refusal",
    "decode_sum_reply",
    "decode_sum_request",
    "decode_train_reply",
    "decode_train_request",
    "encode_cooccurrence_reply",
    "encode_cooccurrence_request",
    "encode_enrol_reply",
    "encode_enrol_request",
    "encode_evaluate_reply",
    "encode_evaluate_request",
    "encode_noised_metrics_reply",
    "encode_popularity_reply",
    "encode_popularity_request",
    "encode_refusal",
    "encode_sum_reply",
    "encode_sum_request",
    "encode_train_reply",
    "encode_train_request",
    "is_refusal",
]
