"""What a site's own blend gains: every site of a run chooses for itself, then is tested once.

    PYTHONPATH=. python -m benchmarks.site_blend RUN --write docs/site-blend.jsonl

Each site chooses on histories that end before the run's test items, so that its users' last item
is the run's validation item; the test items are then ranked with and without its blend. Figures
are over all users of all sites, paired by user.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.serving.made_site import install
from client.serving.blending import choose_blend, grid
from client.serving.served import Served, WhatToServe
from client.site_data import load_site
from common.atomic_files import write_text
from common.blend import PLAIN, Blend
from common.config import RunConfig
from common.run_folder import RunFolder
from server.export import export_run
from simulations.datasets import load_dataset
from simulations.evaluation.intervals import mean_interval, paired_difference
from simulations.partition import write_site_folders

Floats = npt.NDArray[np.float64]


def main() -> None:
    """Measures, prints, and keeps a line for each site and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    folder = RunFolder.open(given.run)
    config = folder.read_config()
    lines, plain, blended = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for site in _sites(folder, config, Path(scratch)):
            line, gains = measure(site, config)
            print(json.dumps(line), flush=True)
            lines.append(line)
            plain.append(gains[0])
            blended.append(gains[1])
    own, mixed = np.concatenate(plain), np.concatenate(blended)
    whole = {
        "site": "all",
        "run": given.run.name,
        "users": len(own),
        "ndcg_10": mean_interval(own).to_dict(),
        "ndcg_10_blended": mean_interval(mixed).to_dict(),
        "gain": paired_difference(mixed, own).to_dict(),
    }
    print(json.dumps(whole))
    if given.write is not None:
        write_text(given.write, "".join(json.dumps(line) + "\n" for line in [*lines, whole]))


def measure(site: Path, config: RunConfig) -> tuple[dict[str, object], tuple[Floats, Floats]]:
    """What a site chose, and NDCG@10 of its users' test items without and with it."""
    blends = grid()
    _, ranks = WhatToServe(site, as_of="test").held_out_ranks(blends)
    choice = choose_blend(ranks, blends)
    served = WhatToServe(site, as_of="test").load()
    gains = _gains(served, site, config, PLAIN), _gains(served, site, config, choice.blend)
    difference = float((gains[1] - gains[0]).mean())
    line = {"site": served.site, **choice._asdict(), "test_gain": difference}
    return line | {"blend": asdict(choice.blend), "best": asdict(choice.best)}, gains


def _gains(served: Served, site: Path, config: RunConfig, blend: Blend) -> Floats:
    data = load_site(site)
    splits = data.splits(config.data.split, config.data.seed, config.data.cut)
    index = WhatToServe(site, as_of="test").index_of(blend)
    found = []
    for split, user in zip(splits, served.histories.users, strict=True):
        asker = served.asker(user)
        if asker is None or not len(split.test.items):
            continue
        scores = index.scores(asker.at(0)).astype(np.float64)
        scores[asker.history] = -np.inf
        rank = int((~(scores < scores[split.test.items[0]])).sum())
        found.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    return np.array(found)


def _sites(folder: RunFolder, config: RunConfig, scratch: Path) -> list[Path]:
    """The run's sites, each with the run's adapter installed."""
    key = Ed25519PrivateKey.generate()
    key_file = scratch / "signing.key"
    key_file.write_bytes(key.private_bytes_raw())
    key_file.chmod(0o600)
    export_run(folder.path, scratch / "export", key_file)
    signer = key.public_key().public_bytes_raw().hex()
    dataset = load_dataset(config.data)
    data = config.data.model_copy(update={"sites_folder": ""})
    sites = write_site_folders(dataset, data, scratch / "sites")
    for site in sites:
        install((scratch / "export", signer), site, dataset, config)
    return sites


if __name__ == "__main__":
    main()
