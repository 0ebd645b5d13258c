from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MessageError
from common.secagg import messages as m
from common.secagg.key_messages import KeyAdvert

names = st.text(min_size=1, max_size=20).filter(lambda s: s.isprintable())


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def named(size: int) -> st.SearchStrategy[tuple[tuple[str, bytes], ...]]:
    found = st.dictionaries(names, exactly(size), max_size=4)
    return found.map(lambda d: tuple(sorted(d.items())))


name_lists = st.sets(names, max_size=5).map(lambda found: tuple(sorted(found)))
adverts = st.builds(
    KeyAdvert,
    *[exactly(32)] * 2,
    names,
    *[exactly(32)] * 3,
    st.binary(max_size=80),
    exactly(64),
)
key_lists = st.lists(adverts, max_size=3, unique_by=lambda a: a.site).map(
    lambda found: m.KeyList(tuple(sorted(found, key=lambda a: a.site)))
)
contexts = exactly(32)
every_message = st.one_of(
    adverts,
    key_lists,
    st.builds(m.ShareUpload, contexts, names, named(82)),
    st.builds(m.ShareDelivery, contexts, name_lists, named(82)),
    st.builds(m.MaskedInput, contexts, names, st.binary(max_size=40)),
    st.builds(m.SurvivorList, contexts, name_lists),
    st.builds(m.SurvivorSignature, contexts, names, exactly(64)),
    st.builds(m.UnmaskRequest, contexts, named(64)),
    st.builds(m.UnmaskShares, contexts, names, named(33), named(33)),
)


@given(every_message)
def test_a_message_survives_its_bytes(message: Any) -> None:
    assert type(message).decode(message.encode()) == message


@given(every_message, st.data())
def test_bytes_are_read_strictly(message: Any, data: st.DataObject) -> None:
    encoded = message.encode()
    with pytest.raises(MessageError):
        type(message).decode(encoded + b"\0")
    with pytest.raises(MessageError):
        type(message).decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
    # Either refused, or another message: never the same one under two encodings.
    with contextlib.suppress(MessageError):
        assert type(message).decode(changed) != message


@given(st.binary(max_size=200))
def test_noise_is_no_message(data: bytes) -> None:
    for kind in (m.KeyList, m.ShareUpload, m.MaskedInput, m.UnmaskShares):
        with pytest.raises(MessageError):
            kind.decode(data)


def test_a_message_of_another_kind_is_refused() -> None:
    encoded = m.SurvivorList(bytes(32), ("a",)).encode()
    with pytest.raises(MessageError, match="expected"):
        m.UnmaskRequest.decode(encoded)


@pytest.mark.parametrize("sites", [("b", "a"), ("a", "a")])
def test_sites_are_sorted_and_named_once(sites: tuple[str, ...]) -> None:
    with pytest.raises(MessageError, match="sorted"):
        m.SurvivorList.decode(m.SurvivorList(bytes(32), sites).encode())


def test_names_that_do_not_fit_are_refused() -> None:
    for name in ("", "x" * 256, "\ud800"):
        with pytest.raises(MessageError, match="name"):
            m.SurvivorSignature(bytes(32), name, bytes(64)).encode()
