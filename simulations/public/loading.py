"""`news`, `products`, `ads`, `music` and `pictures` as data sets.

From a real folder, or a generated sample.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from common.config import DataConfig
from common.errors import DataError
from common.interactions import Dataset, build_dataset
from simulations.movielens_sources import Notify
from simulations.public.ads import read_ads
from simulations.public.music import read_music
from simulations.public.news import read_news
from simulations.public.pictures import read_pictures
from simulations.public.products import read_products
from simulations.public.samples import SAMPLES
from simulations.public.tables import Impression, PublicData

READERS: Mapping[str, Callable[[Path], PublicData]] = {
    "news": read_news,
    "products": read_products,
    "ads": read_ads,
    "music": read_music,
    "pictures": read_pictures,
}
"""What reads a folder in the real format, by the name of the data set."""

SOURCES: Mapping[str, str] = {
    "news": "MIND, under Microsoft's research licence",
    "products": "Amazon reviews (McAuley lab), for research",
    "ads": "Alimama's Ad Display/Click Data (Tianchi), for research",
    "music": "Last.fm 1K (O. Celma 2010), for research, no commercial use",
    "pictures": "of whoever made the files",
}
SAMPLE_LICENCE = "Made up by fedrec; no licence applies."


def load_public(config: DataConfig, notify: Notify) -> Dataset:
    """The checked data set that `config.dataset` names; `notify` hears of a generated sample.

    Raises:
        DataError: A file is missing or wrong, or too little is left.
    """
    name, is_sample = config.dataset, not config.folder
    if is_sample:
        notify(f"{name}: a generated sample, made up; the real files: --set data.folder=FOLDER")
    raw = public_data(name, config.folder, config.seed).raw
    return build_dataset(
        f"{name} (generated sample)" if is_sample else name,
        raw.interactions,
        raw.items,
        raw.users if len(raw.users.column_names) > 1 else None,
        min_interactions=config.min_interactions,
        licence=SAMPLE_LICENCE if is_sample else SOURCES[name],
    )


def impressions_of(config: DataConfig) -> tuple[Impression, ...]:
    """What users were shown, as the files of `config` say; empty where they do not."""
    if config.dataset not in READERS:
        return ()
    return public_data(config.dataset, config.folder, config.seed).impressions


@lru_cache(maxsize=1)
def public_data(name: str, folder: str, seed: int) -> PublicData:
    """What the files hold; kept, because tables and impressions are asked for one by one.

    Raises:
        DataError: There is no such folder, or a file is missing or wrong.
    """
    if not folder:
        with tempfile.TemporaryDirectory(prefix="fedrec-sample.") as temporary:
            SAMPLES[name](Path(temporary), seed)
            return READERS[name](Path(temporary))
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise DataError(f"data.folder={folder!r} is no folder; name the one with {name} files")
    return READERS[name](path)
