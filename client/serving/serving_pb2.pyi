from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Visitor(_message.Message):
    __slots__ = ("item_ids", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.ScalarMap[str, str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("user", "visitor", "k", "unix_seconds")
    USER_FIELD_NUMBER: _ClassVar[int]
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    user: str
    visitor: Visitor
    k: int
    unix_seconds: int
    def __init__(self, user: _Optional[str] = ..., visitor: _Optional[_Union[Visitor, _Mapping]] = ..., k: _Optional[int] = ..., unix_seconds: _Optional[int] = ...) -> None: ...

class Recommended(_message.Message):
    __slots__ = ("item_id", "title", "score", "propensity")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    score: float
    propensity: float
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., score: _Optional[float] = ..., propensity: _Optional[float] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("recommendation_id", "adapter", "policy", "items")
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    recommendation_id: str
    adapter: str
    policy: str
    items: _containers.RepeatedCompositeFieldContainer[Recommended]
    def __init__(self, recommendation_id: _Optional[str] = ..., adapter: _Optional[str] = ..., policy: _Optional[str] = ..., items: _Optional[_Iterable[_Union[Recommended, _Mapping]]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("user", "visitor", "item_id", "top", "unix_seconds", "words")
    USER_FIELD_NUMBER: _ClassVar[int]
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    user: str
    visitor: Visitor
    item_id: str
    top: int
    unix_seconds: int
    words: int
    def __init__(self, user: _Optional[str] = ..., visitor: _Optional[_Union[Visitor, _Mapping]] = ..., item_id: _Optional[str] = ..., top: _Optional[int] = ..., unix_seconds: _Optional[int] = ..., words: _Optional[int] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("item_id", "title", "effect")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    title: str
    effect: float
    def __init__(self, item_id: _Optional[str] = ..., title: _Optional[str] = ..., effect: _Optional[float] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("adapter", "item_id", "title", "score", "score_without_history", "reasons", "sentence", "words", "words_by")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORE_WITHOUT_HISTORY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    WORDS_BY_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    item_id: str
    title: str
    score: float
    score_without_history: float
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    sentence: str
    words: _containers.RepeatedCompositeFieldContainer[WordReason]
    words_by: str
    def __init__(self, adapter: _Optional[str] = ..., item_id: _Optional[str] = ..., title: _Optional[str] = ..., score: _Optional[float] = ..., score_without_history: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., sentence: _Optional[str] = ..., words: _Optional[_Iterable[_Union[WordReason, _Mapping]]] = ..., words_by: _Optional[str] = ...) -> None: ...

class WordReason(_message.Message):
    __slots__ = ("word", "effect")
    WORD_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    word: str
    effect: float
    def __init__(self, word: _Optional[str] = ..., effect: _Optional[float] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("request_id", "user", "item_id", "kind", "unix_seconds", "recommendation_id")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[FeedbackRequest.Kind]
        TAKEN: _ClassVar[FeedbackRequest.Kind]
        DISMISSED: _ClassVar[FeedbackRequest.Kind]
    KIND_UNSPECIFIED: FeedbackRequest.Kind
    TAKEN: FeedbackRequest.Kind
    DISMISSED: FeedbackRequest.Kind
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDATION_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user: str
    item_id: str
    kind: FeedbackRequest.Kind
    unix_seconds: int
    recommendation_id: str
    def __init__(self, request_id: _Optional[str] = ..., user: _Optional[str] = ..., item_id: _Optional[str] = ..., kind: _Optional[_Union[FeedbackRequest.Kind, str]] = ..., unix_seconds: _Optional[int] = ..., recommendation_id: _Optional[str] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("already_recorded",)
    ALREADY_RECORDED_FIELD_NUMBER: _ClassVar[int]
    already_recorded: bool
    def __init__(self, already_recorded: _Optional[bool] = ...) -> None: ...

class ModelInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ModelInfoResponse(_message.Message):
    __slots__ = ("site", "adapter", "run", "server_round", "adapter_sha256", "config_sha256", "catalogue_sha256", "base_weights", "items", "new_items", "policy", "loaded_at")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    SERVER_ROUND_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_SHA256_FIELD_NUMBER: _ClassVar[int]
    CONFIG_SHA256_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_SHA256_FIELD_NUMBER: _ClassVar[int]
    BASE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEW_ITEMS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    site: str
    adapter: str
    run: str
    server_round: int
    adapter_sha256: str
    config_sha256: str
    catalogue_sha256: str
    base_weights: str
    items: int
    new_items: int
    policy: str
    loaded_at: int
    def __init__(self, site: _Optional[str] = ..., adapter: _Optional[str] = ..., run: _Optional[str] = ..., server_round: _Optional[int] = ..., adapter_sha256: _Optional[str] = ..., config_sha256: _Optional[str] = ..., catalogue_sha256: _Optional[str] = ..., base_weights: _Optional[str] = ..., items: _Optional[int] = ..., new_items: _Optional[int] = ..., policy: _Optional[str] = ..., loaded_at: _Optional[int] = ...) -> None: ...
