"""Three real sites with real ledgers, and planted strings that no answer and no log may hold."""

from __future__ import annotations

import base64
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from flwr.app import RecordDict

import common.errors
from client.release import unit_popularity
from client.resident.protocol import (
    Request,
    RequestHead,
    content_to_bytes,
    parse_answer,
)
from client.resident.site import ResidentSite
from client.site_ledger import SiteLedger
from client.site_setup import ledger_of
from common.config import (
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    ModelConfig,
    PrivacyConfig,
    RunConfig,
)
from common.errors import FedrecError
from common.messages import SUM_QUERY, SumRequest, decode_refusal, encode_sum_request, is_refusal
from common.privacy_units import make_units
from common.site_folder import INTERACTIONS_FILE, USERS_FILE
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset
from tests.client.resident.conftest import frame_of
from tests.fuzzing.counting import sort_of
from tests.sum_federation import ITEMS, RUN, SumFederation, site_name

USER, PLACE, JOB = "canary-user-", "canary-place", "canary-job"
SITES = 3
LONGEST_LINE = 1000
CODES = {
    name
    for name, each in vars(common.errors).items()
    if isinstance(each, type) and issubclass(each, FedrecError)
}
PACKAGES = ("client", "server", "common")
CHARGES = "SELECT count(*) FROM releases WHERE event_json IS NOT NULL"
POLICY = """
max_epsilon = 20.0
allowed_modes = ["local", "distributed"]
allowed_releases = ["popularity", "cooccurrence"]
"""


def config_of(mode: str) -> RunConfig:
    """A run of `mode` with every kind of statistic."""
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=SITES),
        model=ModelConfig(
            head_dim=4, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2, item_to_item=True
        ),
        privacy=PrivacyConfig.model_validate(
            {
                "mode": mode,
                "targets_per_unit": 2,
                "negatives_per_unit": 4,
                "max_site_units": 60,
            }
        ),
        federation=FederationConfig(rounds=2, local_lr=0.1),
        evaluation=EvaluationConfig(every=1, metrics="private", companions="", lab=False),
    )


class Records(logging.Handler):
    """All that is logged, with its tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one record as it would be written."""
        self.lines.append(self.format(record))

    def take(self) -> str:
        """What was logged since the last time."""
        text, self.lines = "\n".join(self.lines), []
        return text


@contextmanager
def recorded(*names: str) -> Iterator[Records]:
    """Everything that the packages log within the block; nothing of it is printed."""
    records, loggers = Records(), [logging.getLogger(name) for name in names or PACKAGES]
    before = [(each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.addHandler(records)
        each.setLevel(logging.DEBUG)
        each.propagate = False
    try:
        yield records
    finally:
        for each, (level, propagate) in zip(loggers, before, strict=True):
            each.removeHandler(records)
            each.setLevel(level)
            each.propagate = propagate


@dataclass(frozen=True)
class Planted:
    """What must not be seen: `secrets` nowhere, `places` in no answer."""

    secrets: tuple[bytes, ...]
    places: tuple[bytes, ...]

    def in_answer(self, content: bytes) -> list[bytes]:
        """What of it is in an answer's bytes."""
        return [each for each in (*self.secrets, *self.places) if each in content]

    def in_log(self, text: str) -> list[bytes]:
        """What of it is in a log; a site's own log may name its own folder."""
        content = text.encode("utf-8", "replace")
        return [each for each in self.secrets if each in content]


def plant(folder: Path) -> None:
    """Gives the users of a site names that can be searched for."""
    for name in (USERS_FILE, INTERACTIONS_FILE):
        table = pq.read_table(folder / name)
        columns = {column: table[column] for column in table.column_names}
        ids = [f"{USER}{each}" for each in table["user_id"].to_pylist()]
        columns["user_id"] = pa.array(ids, pa.string())
        if "occupation" in columns:
            columns["occupation"] = pa.array([JOB] * len(ids), pa.string())
        pq.write_table(pa.table(columns), folder / name)


def planted_at(folder: Path, site: ResidentSite, config: RunConfig) -> Planted:
    """What is secret at a site: ids, attributes, keys, and what it counts before any noise."""
    secrets = [USER.encode(), JOB.encode()]
    for file in sorted((folder / "keys").iterdir()):
        key = file.read_bytes()
        secrets += [key, key.hex().encode(), base64.b64encode(key)]
    splits = site.data.splits(config.data.split, config.data.seed, config.data.cut)
    units = make_units(splits, max_history=config.model.max_history, unit=config.privacy.unit)
    counts = unit_popularity(units, len(site.data.catalogue))
    secrets += [counts.astype(np.float32).tobytes(), counts.tobytes()]
    return Planted(tuple(secrets), (PLACE.encode(), b"Traceback", b"site-packages", b".py"))


class ServedSites(SumFederation):
    """Resident sites in this process; `tests.sum_federation.Walk` walks them through sums."""

    def __init__(self, folder: Path, run: str = RUN) -> None:
        data = DataConfig(dataset="synthetic", sites=SITES)
        dataset = synthetic_dataset(users=4 * SITES, items=ITEMS)
        self.folders: Sequence[Path] = write_site_folders(dataset, data, folder)
        for each in self.folders:
            plant(each)
            (each / "policy.toml").write_text(POLICY)
        super().__init__(config_of("distributed"), run)
        self.local = config_of("local")
        self.sites = {site_name(at): ResidentSite(each) for at, each in enumerate(self.folders)}
        self.hidden = planted_at(self.folders[0], self.first, self.local)

    @property
    def first(self) -> ResidentSite:
        """The site that is fuzzed."""
        return self.sites["site-0000"]

    def agent(self, site: str) -> Any:
        """As the walk wants it: something with the site's ledger."""
        return self.sites[site]

    def ledger_of(self, site: str) -> SiteLedger:
        """The site's ledger by its places."""
        found = self.sites[site]
        return ledger_of(found.ledger.path.parent, found.data, found.policy)

    def answer(self, site: str, request: SumRequest) -> RecordDict:
        """What a site's agent answers, by the bytes of its frame."""
        body = content_to_bytes(encode_sum_request(request))
        head = head_of(SUM_QUERY, str(request.server_round), self.config)
        found = parse_answer(frame_of(self.sites[site].answer(Request(head, body))))
        assert isinstance(found, RecordDict)
        return found

    def charges(self) -> int:
        """Charged releases in the ledger of the site that is fuzzed."""
        with sqlite3.connect(self.first.ledger.path) as connection:
            (count,) = connection.execute(CHARGES).fetchone()
        connection.close()
        return int(count)


def head_of(message_type: str, group: str, config: RunConfig) -> RequestHead:
    """What a relay says beside a message."""
    return RequestHead(message_type=message_type, group=group, run_config=dict(config.to_flat()))


def judged(
    answer: bytes, log: str, sites: ServedSites, before: int, said: Counter[str]
) -> RecordDict | str:
    """Holds an answer and what was logged meanwhile against all that must be true of them."""
    assert not sites.hidden.in_answer(answer), answer
    assert not sites.hidden.in_log(log), log
    assert "unexpected failure" not in log, log
    assert "Traceback" not in log, log
    assert is_of_own_lines(log), log
    found, after = parse_answer(frame_of(answer)), sites.charges()
    if isinstance(found, str):
        assert is_a_line(found, 500), found
        assert after == before
        said[f"fault: {sort_of(found)}"] += 1
        return found
    if not is_refusal(found):
        assert after - before in (0, 1)
        said[f"answered: {found.config_records['meta']['kind']}"] += 1
        return found
    refusal = decode_refusal(found, server_round=_int(found.config_records["meta"]["server_round"]))
    assert refusal.code in CODES, refusal
    assert is_a_line(refusal.reason, LONGEST_LINE), refusal
    assert after == before, refusal
    said[f"{refusal.code}: {sort_of(refusal.reason)}"] += 1
    return found


def is_a_line(text: str, longest: int) -> bool:
    """Whether a reason is one line that a terminal can show as it is."""
    return 0 < len(text) <= longest and text.isprintable()


def is_of_own_lines(log: str) -> bool:
    """Whether no line of a log, and no colour of it, is of the peer's making."""
    forged = any(line.startswith("forged") for line in log.splitlines())
    return not forged and "\x1b" not in log and "\x00" not in log


def _int(value: Any) -> int:
    assert isinstance(value, int)
    return value
