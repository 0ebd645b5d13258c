"""Another adapter is loaded aside and switched to; one that cannot be loaded changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.made_site import install
from client.installed_adapter import current_folder, rollback_adapter
from client.serving.recommending import SiteRecommender, Visitor
from client.serving.served import WhatToServe
from client.serving.swapping import Swapper, stamp
from common.errors import ExportError
from tests.client.serving.conftest import CONFIG, DATASET

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def test_the_current_adapter_is_followed(
    site: Path, exports: list[tuple[Path, str]], caplog: pytest.LogCaptureFixture
) -> None:
    what = WhatToServe(site)
    seen = stamp(site)
    recommender = SiteRecommender(what.load())
    swapper = Swapper(what, recommender, seen)
    visitor = Visitor(DATASET.catalogue.item_ids[:3])
    assert not swapper.look()
    first = recommender.recommend(visitor, 80 - 3)
    second_name = install(exports[1], site, DATASET, CONFIG)
    assert swapper.look()
    second = recommender.recommend(visitor, 80 - 3)
    assert second.adapter == second_name != first.adapter
    assert [offer.score for offer in second.offers] != [offer.score for offer in first.offers]

    rollback_adapter(site)
    assert swapper.look()
    back = recommender.recommend(visitor, 80 - 3)
    assert back.offers == first.offers  # to the last bit

    install(exports[1], site, DATASET, CONFIG)
    folder = current_folder(site)
    assert folder is not None
    (folder / "README.md").write_text("changed")
    assert not swapper.look()
    assert not swapper.look()
    assert caplog.text.count("goes on being served") == 1
    assert recommender.recommend(visitor, 80 - 3).offers == first.offers
    with pytest.raises(ExportError, match="was changed since it was installed"):
        what.load()
