"""Words of a reason: each effect is the difference of two scores that serving itself gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client import cli
from client.serving import serving_pb2 as pb
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import Served, WhatToServe
from client.serving.words import WordReader, WordReason, Words, words_sentence
from common.base_weights import load_tokenizer, resolve_base_weights
from common.errors import RequestFault
from common.item_index import build_index
from common.student.encoding import TextEncoder
from common.student.shrinking import merged_bert, small_copy
from tests.client.serving.calls import ITEM, explain
from tests.client.serving.conftest import one_client
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TEXT = "Robot's well-known march (1994). Genres: Drama"


def new_items(path: Path, texts: list[str]) -> Path:
    pq.write_table(
        pa.table({"item_id": [f"new-{n}" for n in range(len(texts))], "text": texts}), path
    )
    return path


def score_of(what: WhatToServe, who: str, item_id: str) -> float:
    served = what.load()
    asker = served.asker(who)
    assert asker is not None
    return float(served.index.scores(asker.at(0))[served.items.index_of(item_id)])


def test_a_words_effect_is_the_score_less_that_of_the_text_without_it(
    site: Path, tmp_path: Path
) -> None:
    less = {
        "Robot's": "well-known march (1994). Genres: Drama",
        "well-known": "Robot's march (1994). Genres: Drama",
        "1994": "Robot's well-known march (). Genres: Drama",
    }
    what = WhatToServe(
        site, new_items(tmp_path / "n.parquet", [TEXT, *less.values()]), with_words=True
    )
    recommender = SiteRecommender(what.load())
    user = next(iter(recommender.served.histories.users))
    found = {w.word: w.effect for w in recommender.words(user, "new-0", 9).reasons}
    assert list(found) == sorted(found, key=lambda word: -abs(found[word]))
    assert set(found) == {"Robot's", "well-known", "march", "1994", "Genres", "Drama"}
    whole = score_of(what, user, "new-0")
    for number, word in enumerate(less, start=1):
        effect = whole - score_of(what, user, f"new-{number}")
        assert found[word] == pytest.approx(effect, abs=1e-4), word
    assert np.ptp(list(found.values())) > 0


def test_a_known_items_words_are_the_same_beside_other_users(site: Path) -> None:
    what = WhatToServe(site, with_words=True)
    recommender = SiteRecommender(what.load())
    item = recommender.served.items.item_ids[0]
    one, other = list(recommender.served.histories.users)[:2]
    mine = recommender.words(one, item, 3)
    assert recommender.words(other, item, 3) != mine  # the history decides
    assert recommender.words(one, item, 3) == mine
    assert len(mine.reasons) == 3
    assert mine.by == "adapter"
    assert recommender.words(Visitor(), item, 1).reasons


def test_a_text_of_one_word_has_nothing_to_leave_out(site: Path, tmp_path: Path) -> None:
    what = WhatToServe(site, new_items(tmp_path / "n.parquet", ["Metropolis!"]), with_words=True)
    recommender = SiteRecommender(what.load())
    assert recommender.words(Visitor(), "new-0", 3).reasons == []
    assert words_sentence(Words([])) == ""
    found = [WordReason("star", 0.5), WordReason("war", -0.25)]
    told = "Words that count most in it: “star” (+0.50), “war” (-0.25)."
    assert words_sentence(Words(found)) == told
    assert "by the student" in words_sentence(Words(found, "student"))


def test_the_command_tells_them(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec_site = in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    asked = ("recommend", "--site", site, "--new-user", "--k", "2", "--why", "--json")
    code, out, err = fedrec_site(*asked)
    assert code == 0, err
    for offer in json.loads(out)["items"]:
        assert len(offer["words"]) == 3
        assert "Words that count most in it: “" in offer["why"]


def test_grpc_tells_words_to_who_asks_for_them(served_words: Served) -> None:
    recommender = SiteRecommender(served_words)
    user = next(iter(served_words.histories.users))
    with one_client(recommender) as ask:
        plain = cast(pb.ExplainResponse, explain(user=user, item_id=ITEM)(ask))
        assert (len(plain.words), plain.words_by, "Words" in plain.sentence) == (0, "", False)
        told = cast(pb.ExplainResponse, explain(user=user, item_id=ITEM, words=2)(ask))
    exact = recommender.words(user, ITEM, 2).reasons
    assert [word.word for word in told.words] == [word.word for word in exact]
    effects = [word.effect for word in told.words]
    assert effects == pytest.approx([word.effect for word in exact], abs=1e-5)
    assert told.words_by == "adapter"
    assert " Words that count most in it: “" in told.sentence


def test_words_are_refused_where_nobody_keeps_a_tower_and_while_it_is_busy(
    served: Served, served_words: Served
) -> None:
    user = next(iter(served.histories.users))
    call = explain(user=user, item_id=ITEM, words=2)
    with one_client(SiteRecommender(served)) as ask, pytest.raises(grpc.RpcError) as caught:
        call(ask)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "--words" in caught.value.details()
    reader = served_words.words
    assert reader is not None
    with one_client(SiteRecommender(served_words)) as ask:
        with reader._busy, pytest.raises(grpc.RpcError) as caught:
            call(ask)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(ask)  # a refusal leaves nothing held


def test_reading_ends_when_nobody_waits_any_more(served_words: Served) -> None:
    recommender = SiteRecommender(served_words)
    with pytest.raises(RequestFault, match="deadline") as caught:
        recommender.words(Visitor(), ITEM, 2, is_wanted=lambda: False)
    assert caught.value.reason == "late"
    assert recommender.words(Visitor(), ITEM, 2).reasons


def test_a_new_items_words_are_read_by_the_student_that_gives_its_vector(
    served_words: Served, site: Path
) -> None:
    _, model, _ = WhatToServe(site).tower()
    tokenizer = load_tokenizer(resolve_base_weights(model.config.weights))
    student = TextEncoder(small_copy(merged_bert(model), (0,), 64), tokenizer, 32)
    less = "Robot's well-known march (). Genres: Drama"
    index = build_index(model, model.whitening(student.vectors([TEXT, less])))
    asker = served_words.asker(next(iter(served_words.histories.users)))
    assert asker is not None
    asked = asker.at(0)
    whole, without = index.scores(asked)[-2:]
    found = WordReader(model, student).read(index, TEXT, asked, 9, is_new=True)
    assert found.by == "student"
    effects = {reason.word: reason.effect for reason in found.reasons}
    assert effects["1994"] == pytest.approx(whole - without, abs=1e-4)


@pytest.fixture(scope="module")
def served_words(shared_site: Path) -> Served:
    return WhatToServe(shared_site, with_words=True).load()
