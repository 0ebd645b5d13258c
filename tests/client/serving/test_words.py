"""Words of a reason: each effect is the difference of two scores that serving itself gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from client import cli
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import WhatToServe
from client.serving.words import WordReason, words_sentence
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
    what = WhatToServe(site, new_items(tmp_path / "n.parquet", [TEXT, *less.values()]))
    recommender = SiteRecommender(what.load())
    user = next(iter(recommender.served.histories.users))
    found = {w.word: w.effect for w in recommender.words(what.recommender(), user, "new-0", 9)}
    assert list(found) == sorted(found, key=lambda word: -abs(found[word]))
    assert set(found) == {"Robot's", "well-known", "march", "1994", "Genres", "Drama"}
    whole = score_of(what, user, "new-0")
    for number, word in enumerate(less, start=1):
        effect = whole - score_of(what, user, f"new-{number}")
        assert found[word] == pytest.approx(effect, abs=1e-4), word
    assert np.ptp(list(found.values())) > 0


def test_a_known_items_words_are_the_same_beside_other_users(site: Path) -> None:
    what = WhatToServe(site)
    recommender = SiteRecommender(what.load())
    item = recommender.served.items.item_ids[0]
    one, other = list(recommender.served.histories.users)[:2]
    model = what.recommender()
    mine = recommender.words(model, one, item, 3)
    assert recommender.words(model, other, item, 3) != mine  # the history decides
    assert recommender.words(model, one, item, 3) == mine
    assert len(mine) == 3
    assert recommender.words(model, Visitor(), item, 1)


def test_a_text_of_one_word_has_nothing_to_leave_out(site: Path, tmp_path: Path) -> None:
    what = WhatToServe(site, new_items(tmp_path / "n.parquet", ["Metropolis!"]))
    recommender = SiteRecommender(what.load())
    assert recommender.words(what.recommender(), Visitor(), "new-0", 3) == []
    assert words_sentence([]) == ""
    told = words_sentence([WordReason("star", 0.5), WordReason("war", -0.25)])
    assert told == "Words that count most in it: “star” (+0.50), “war” (-0.25)."


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
