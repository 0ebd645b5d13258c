"""A model that reads context is served with the context: offline is online, and it matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.made_site import install, make_export, make_site
from client.cli import main
from client.installed_adapter import current_folder
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import WhatToServe
from client.site_data import load_site
from common.adapter_export import read_export, read_manifest
from common.errors import DataError, RequestFault
from common.holdout import is_judged
from common.loaded_recommender import loaded_recommender
from common.requests import requests_of
from tests.client.serving.conftest import CONFIG, DATASET
from tests.own_process import in_own_process

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

WITH_CONTEXT = CONFIG.model_copy(
    update={"model": CONFIG.model.model_copy(update={"context": "user,time", "context_dim": 16})}
)
DAY = 86_400


@pytest.fixture(scope="module")
def context_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    site = make_site(DATASET, WITH_CONTEXT, folder / "sites")
    install(make_export(DATASET, WITH_CONTEXT, folder, 4), site, DATASET, WITH_CONTEXT)
    return site


@pytest.fixture(scope="module")
def recommender(context_site: Path) -> SiteRecommender:
    return SiteRecommender(WhatToServe(context_site, as_of="test").load())


def test_lists_with_context_are_those_of_the_offline_evaluation(
    recommender: SiteRecommender, context_site: Path
) -> None:
    folder = current_folder(context_site)
    assert folder is not None
    found = read_export(folder, read_manifest(folder))
    offline = loaded_recommender(
        found.config, DATASET.catalogue, found.adapter, found.item_prior, found.item_to_item
    )
    splits = load_site(context_site).splits(CONFIG.data.split, CONFIG.data.seed)
    judged = [split for split in splits if is_judged(split, "test")]
    asked = requests_of(judged, "test")
    scores = offline.score_all(asked)
    places = recommender.served.items.places
    moved = 0
    for row, split in enumerate(judged):
        moment = int(asked.moments[row])
        offers = recommender.recommend(split.user_id, 10, moment).offers
        wanted = scores[row].copy()
        wanted[asked.histories[row]] = -np.inf
        np.testing.assert_allclose(
            [offer.score for offer in offers], np.sort(wanted)[:-11:-1], rtol=1e-4, atol=1e-4
        )
        found_scores = [wanted[places[offer.item_id]] for offer in offers]
        np.testing.assert_allclose([offer.score for offer in offers], found_scores, atol=1e-3)
        later = recommender.recommend(split.user_id, 10, moment + DAY // 2).offers
        moved += [offer.score for offer in later] != [offer.score for offer in offers]
    assert moved == len(judged)  # the time of day is read


def test_attributes_of_somebody_new_are_read_and_a_foreign_name_is_refused(
    recommender: SiteRecommender,
) -> None:
    name = sorted(recommender.served.histories.attributes)[0]
    values = sorted(set(recommender.served.histories.attributes[name]))
    told = [
        [offer.score for offer in recommender.recommend(Visitor((), {name: value}), 5, DAY).offers]
        for value in (values[0], values[-1])
    ]
    assert told[0] != told[1]
    with pytest.raises(RequestFault, match="attribute 'shoe size' is none of this site's users"):
        recommender.recommend(Visitor((), {"shoe size": "44"}), 5)


def test_a_site_without_attributes_is_told_what_the_adapter_needs(
    context_site: Path,
    recommender: SiteRecommender,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (users,) = context_site.rglob("users.parquet")
    content = users.read_bytes()
    users.unlink()
    try:
        with pytest.raises(DataError, match=r"reads attributes of users \(model.context=user,time"):
            WhatToServe(context_site).load()
        fedrec_site = in_own_process(main, "fedrec-site", monkeypatch=monkeypatch, capsys=capsys)
        code, out, err = fedrec_site("recommend", "--site", context_site, "--new-user")
        assert (code, out) == (2, "")
        assert "name columns under [users] in source.toml" in err
    finally:
        users.write_bytes(content)
