"""A site's blend: exact parts, and a choice that is held against users who had no say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from client import cli
from client.serving.blending import (
    BLEND_FILE,
    PARTS,
    choose_blend,
    grid,
    held_out_ranks,
    part_of,
    read_blend,
)
from client.serving.feedback import SERVING_FOLDER
from client.serving.recommending import SiteRecommender
from client.serving.served import WhatToServe
from common.approximate_index import ApproximateIndex
from common.blend import PLAIN, Blend
from common.errors import DataError
from simulations.cold_start.plain_scorers import RECENT, tfidf_scorer
from tests.client.serving.conftest import DATASET
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def write(site: Path, text: str) -> None:
    (site / SERVING_FOLDER).mkdir(exist_ok=True)
    (site / SERVING_FOLDER / BLEND_FILE).write_text(text)


def scores(site: Path) -> np.ndarray:
    served = WhatToServe(site).load()
    asker = served.asker(next(iter(served.histories.users)))
    assert asker is not None
    return served.index.scores(asker.at(0))


def test_the_parts_add_up_to_the_score_and_a_blend_weighs_them(site: Path) -> None:
    adapter = WhatToServe(site).load().adapter
    whole, parts = scores(site), {}
    for name in PARTS:
        factors = "".join(f"{part} = {float(part == name)}\n" for part in PARTS)
        write(site, f'adapter = "{adapter}"\n{factors}')
        parts[name] = scores(site)
        assert np.abs(parts[name]).max() > 0, name
    words = parts.pop("tfidf")
    assert sum(parts.values()) == pytest.approx(whole, abs=1e-4)
    write(
        site,
        f'adapter = "{adapter}"\nhead = 0.0\ntext = 2.0\nprior = 0.5\nitem_to_item = 4.0\n'
        "tfidf = 3.0\n",
    )
    mixed = 2 * parts["text"] + 0.5 * parts["prior"] + 4 * parts["item_to_item"] + 3 * words
    assert scores(site) == pytest.approx(mixed, abs=1e-4)


def test_words_alone_score_online_as_in_the_simulation_and_new_items_change_nothing(
    site: Path, tmp_path: Path
) -> None:
    write_words_alone(site)
    served = WhatToServe(site).load()
    asker = served.asker(next(iter(served.histories.users)))
    assert asker is not None
    offline = tfidf_scorer(DATASET.catalogue, RECENT)([asker.at(0)[0]])
    online = served.index.scores(asker.at(0))
    assert online == pytest.approx(9 * np.asarray(offline)[0], abs=1e-5)
    new = tmp_path / "new.parquet"
    text = DATASET.catalogue.texts[int(asker.history[-1])]
    pq.write_table(pa.table({"item_id": ["n0", "n1"], "text": [text, "zzz"]}), new)
    whole = WhatToServe(site, new).load()
    more = whole.index.scores(asker.at(0))
    assert more[:-2] == pytest.approx(online, abs=1e-5)
    assert more[-2] > more[-1] + 1
    item = int(np.argmax(online))
    assert served.index.scores_of_item(asker.at(0), item) == pytest.approx(online[[item]], abs=1e-5)


def test_candidates_of_a_large_catalogue_have_the_words_part(site: Path) -> None:
    write_words_alone(site)
    served = WhatToServe(site).load()
    asker = served.asker(next(iter(served.histories.users)))
    assert asker is not None

    class Nothing:
        def candidates(self, query: np.ndarray, count: int) -> np.ndarray:
            return np.arange(3)

    index = replace(served.index, approximate=cast(ApproximateIndex, Nothing()))
    exact = served.index.scores(asker.at(0))
    items, found = index.best(asker.at(0), 5)
    assert found == pytest.approx(exact[items], abs=1e-5)
    assert int(np.argmax(exact)) in items


def write_words_alone(site: Path) -> None:
    adapter = WhatToServe(site).load().adapter
    factors = "".join(f"{part} = 0.0\n" for part in PARTS[:-1])
    write(site, f'adapter = "{adapter}"\n{factors}tfidf = 9.0\n')


def test_another_adapters_blend_is_left_out(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = scores(site)
    write(site, 'adapter = "0009-other"\nhead = 0.0\n')
    assert scores(site) == pytest.approx(whole)
    assert "run `fedrec-site blend` again" in caplog.text


def test_the_figures_of_the_run_are_the_adapters_own(site: Path) -> None:
    served = WhatToServe(site, as_of="test").load()
    write(site, f'adapter = "{served.adapter}"\nhead = 0.0\n')
    assert WhatToServe(site, as_of="test").load().index.blend == PLAIN


def test_a_planted_best_blend_is_found_and_its_gain_is_that_of_users_who_had_no_say() -> None:
    blends, rng = grid(), np.random.default_rng(0)
    ranks = rng.integers(30, 200, (len(blends), 200))
    ranks[7] = rng.integers(1, 8, 200)
    found = choose_blend(ranks, blends)
    assert found.blend == found.best == blends[7]
    assert found.low > 0.3
    gains = 1 / np.log2(1 + ranks[7])
    assert found.gain == pytest.approx(gains.mean())


def test_the_best_of_many_that_are_all_alike_is_not_kept() -> None:
    blends, rng = grid(), np.random.default_rng(1)
    ranks = rng.integers(1, 40, (len(blends), 60))
    found = choose_blend(ranks, blends)
    assert found.best != PLAIN  # somebody always wins
    assert found.blend == PLAIN
    same = choose_blend(np.full((len(blends), 60), 3), blends)
    assert (same.blend, same.low, same.high) == (PLAIN, 0.0, 0.0)


def test_a_score_that_is_no_number_ranks_last(site: Path) -> None:
    what = WhatToServe(site)
    served = what.load()
    broken = replace(served.index, bias=torch.full_like(served.index.bias, torch.nan))
    ranks = held_out_ranks([broken] * len(PARTS), served.histories, grid()[:2])
    offered = len(served.items) - (served.histories.ends - served.histories.starts) + 1
    assert (ranks > 1).all()
    assert ranks.shape == (2, len(offered))
    assert (ranks >= offered).all()


def test_few_users_are_too_few() -> None:
    with pytest.raises(DataError, match="19 users with two items or more are too few"):
        choose_blend(np.ones((len(grid()), 19), dtype=np.int64), grid())


def test_the_grid_has_each_blend_once_and_the_plain_one_first() -> None:
    assert grid()[0] == PLAIN
    assert len(set(grid())) == len(grid()) == 459
    assert part_of("text") == Blend(0.0, 1.0, 0.0, 0.0)


def test_the_command_keeps_what_it_prints_and_goes_back(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fedrec_site = in_own_process(cli.main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
    code, out, err = fedrec_site("blend", "--site", site)
    assert code == 0, err
    assert "by cross-validation over" in out
    kept = read_blend(site / SERVING_FOLDER)
    assert kept is not None
    assert kept.adapter == WhatToServe(site).load().adapter
    assert (kept.blend == PLAIN) == (kept.low <= 0)
    assert WhatToServe(site).load().index.blend == kept.blend
    SiteRecommender(WhatToServe(site).load()).recommend(next(iter(_users(site))), 5)
    write(site, "adapter = 'x'\nhead = -1\n")
    code, _, err = fedrec_site("recommend", "--site", site, "--new-user")
    assert code == 2
    assert f"head in {site / SERVING_FOLDER / BLEND_FILE}" in err.replace("\n", " ")
    assert fedrec_site("blend", "--site", site, "--reset")[0] == 0
    assert read_blend(site / SERVING_FOLDER) is None


def _users(site: Path) -> list[str]:
    return list(WhatToServe(site).load().histories.users)
