"""Real sites with real ledgers behind a grid that loses what a test tells it to lose."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

import client.site_sums
from client.agent import SiteAgent, agent_for, forget_agents
from client.answering import answer
from client.app import app as client_app
from client.site_ledger import SiteLedger
from client.site_setup import ledger_of
from common.config import DataConfig, FederationConfig, ModelConfig, PrivacyConfig, RunConfig
from common.cooccurrence import cell_count
from common.flat_adapter import Floats, size
from common.initial_adapter import adapter_shapes, initial_adapter
from common.message_records import META
from common.messages import SUM_QUERY, SumReply, SumRequest, decode_sum_reply, encode_sum_request
from common.progress import SilentListener
from common.secagg.messages import (
    KeyAdvert,
    MaskedInput,
    ShareUpload,
    SurvivorSignature,
    UnmaskShares,
)
from common.secagg.modular import Residues
from common.secagg.quantisation import QuantisationPlan
from common.sum_plan import cooccurrence_plan, popularity_plan, round_spec, update_plan
from server.reply_reading import ReplyReader
from server.round_record import RoundOutcome
from server.secagg_coordinator import SecAggCoordinator
from server.sum_rounds import SumRounds
from simulations.inprocess_grid import FIRST_NODE_ID, InProcessGrid
from simulations.partition import write_site_folders
from simulations.synthetic import synthetic_dataset

ITEMS = 30
STAGES = ("advertise", "share_keys", "mask_input", "sign_survivors", "unmask")
MESSAGES: dict[str, Any] = dict(
    zip(
        STAGES,
        (KeyAdvert, ShareUpload, MaskedInput, SurvivorSignature, UnmaskShares),
        strict=True,
    )
)
NO_PRIOR = np.zeros(0, dtype=np.float32)
RUN = "r"


def site_name(at: int) -> str:
    return f"site-{at:04d}"


def written_sites(folder: Path, sites: int, users: int | None = None, items: int = ITEMS) -> Path:
    """Folders of `sites` sites, two users each unless told otherwise."""
    data = DataConfig(dataset="synthetic", sites=sites)
    dataset = synthetic_dataset(users=users or 2 * sites, items=items)
    write_site_folders(dataset, data, folder)
    return folder


def sum_config(
    folder: Path, sites: int, *, rounds: int = 2, head_dim: int = 4, **privacy: Any
) -> RunConfig:
    """A run whose model is as small as it can be."""
    fields = {
        "mode": "distributed", "targets_per_unit": 2, "negatives_per_unit": 4,
        "max_site_units": 60, "insecure_seeded_noise": True,
    }  # fmt: skip
    return RunConfig(
        data=DataConfig(dataset="synthetic", sites=sites, sites_folder=str(folder)),
        model=ModelConfig(head_dim=head_dim, head_items=0, lora_layers=1, lora_rank=2, lora_rows=2),
        privacy=PrivacyConfig(**(fields | privacy)),
        federation=FederationConfig(rounds=rounds, local_lr=0.1),
    )


class LossyGrid(InProcessGrid):
    """Loses messages, and keeps what the server could see.

    Attributes:
        lost: by site, stage and round, whether the message is lost on the way `in` or `out`.
        seen: every answer that reached the server, with what was asked.
        at_work: the site that has a message now.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(client_app, config.data.sites, 5, config.to_flat())
        self.lost: dict[tuple[str, str, int], str] = {}
        self.seen: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self.at_work = ""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterator[Message]:
        for message in messages:
            self.at_work = site_name(message.metadata.dst_node_id - FIRST_NODE_ID)
            meta = dict(message.content.config_records[META])
            fate = self.lost.get(
                (self.at_work, str(meta.get("stage")), int(message.metadata.group_id))
            )
            if fate == "in":
                continue
            for reply in super().send_and_receive([message], timeout=timeout):
                if fate != "out":
                    self.seen.append((meta, dict(reply.content.config_records[META])))
                    yield reply


class SumFederation:
    """One run of secure sums over real sites, without evaluation and report."""

    def __init__(self, config: RunConfig, run: str = RUN) -> None:
        self.config, self.run = config, run
        self.grid = LossyGrid(config)
        self.shapes = adapter_shapes(config)
        self.reader = ReplyReader(run, config.sha256(), self.shapes)
        self.sums = SumRounds(config, self.reader, SilentListener())

    def enrol(self) -> RoundOutcome:
        return self.sums.enrol(self.grid)

    def add_up(self, server_round: int = 0, **changed: Any) -> tuple[Floats | None, RoundOutcome]:
        request = self.request("site-0000", "advertise", server_round=server_round)
        request = replace(request, **changed)
        return self.sums.add_up(self.grid, replace(request, participants=()), self.plan(request))

    def plan(self, request: SumRequest) -> QuantisationPlan:
        if request.purpose == "popularity":
            return popularity_plan(self.config, self.sums.roster.items or ITEMS)
        if request.purpose == "cooccurrence":
            cells = cell_count(ITEMS, self.config.model.item_to_item_items)
            return cooccurrence_plan(self.config, cells)
        return update_plan(self.config, size(self.shapes))

    def agent(self, site: str) -> SiteAgent:
        return agent_for({"partition-id": int(site[-4:])}, self.config)

    def ledger_of(self, site: str) -> SiteLedger:
        agent = self.agent(site)
        return ledger_of(agent.ledger.path.parent, agent.data, agent.policy)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(site_name(at) for at in range(self.config.data.sites))

    def request(
        self, site: str, stage: Any, payload: bytes = b"", *, server_round: int = 0
    ) -> SumRequest:
        trains = server_round > 0 and stage in ("mask_input", "exact", "advertise")
        return SumRequest(
            run=self.run,
            server_round=server_round,
            config_sha256=self.config.sha256(),
            purpose="update" if server_round else "popularity",
            stage=stage,
            participants=self.names,
            payload=payload,
            adapter=initial_adapter(self.config) if trains else {},
            item_prior=NO_PRIOR,
        )

    def answered(self, site: str, request: SumRequest) -> SumReply:
        """What the site answers over `client.answering`; the test fails if it refuses."""
        content = self.answer(site, request)
        return decode_sum_reply(content, asked=request, limit=2**24)

    def answer(self, site: str, request: SumRequest) -> RecordDict:
        """The record that the site answers with."""
        return answer(
            SUM_QUERY,
            str(request.server_round),
            encode_sum_request(request),
            self.config.to_flat(),
            {"partition-id": int(site[-4:])},
        )


class Captured(dict[tuple[str, int], Residues]):
    """What each site put into the sum, clipped and noised, by site and number of the call."""

    def of(self, sites: Iterable[str], call: int = 0) -> list[Residues]:
        return [self[site, call] for site in sites]


def capture_inputs(
    patch: pytest.MonkeyPatch, site_at_work: Callable[[], str]
) -> tuple[Captured, Captured]:
    """Observes `masked_sum_input` at every site: what comes out of it, and the exact sums."""
    captured, exact = Captured(), Captured()
    real = client.site_sums.masked_sum_input

    def observed(values: Floats, *arguments: Any) -> Residues:
        result = real(values, *arguments)
        site = site_at_work()
        call = sum(name == site for name, _ in captured)
        captured[site, call], exact[site, call] = result.copy(), values.copy()  # type: ignore[assignment]
        return result

    patch.setattr(client.site_sums, "masked_sum_input", observed)
    return captured, exact


def fresh_copy(template: Path, folder: Path) -> Path:
    """The sites of `template` again, without a past."""
    forget_agents()
    shutil.copytree(template, folder)
    return folder


def plain_total(vectors: Iterable[Residues], bits: int) -> list[int]:
    """Python's unbounded integers modulo 2^bits: nothing in common with the code under test."""
    columns = zip(*([int(v) for v in vector] for vector in vectors), strict=True)
    return [sum(column) % 2**bits for column in columns]


def signed(total: Iterable[int], bits: int) -> list[int]:
    return [value - 2**bits if value >= 2 ** (bits - 1) else value for value in total]


class Walk:
    """The server's side of one round by hand, a stage at a time, over `client.answering`.

    Attributes:
        stage: the one that is due.
        payloads: what each site gets at that stage.
        total: the sum, when all stages are over.
    """

    def __init__(self, federation: SumFederation, server_round: int = 0) -> None:
        self.federation, self.server_round = federation, server_round
        request = federation.request("site-0000", "advertise", server_round=server_round)
        self.plan = federation.plan(request)
        self.spec = round_spec(
            federation.config, federation.run, server_round, federation.names, self.plan
        )
        identities = {
            name: bytes.fromhex(federation.agent(name).ledger.identity.public_key)
            for name in federation.names
        }
        self._server = SecAggCoordinator(self.spec, identities)
        self._due = iter(STAGES)
        self.stage = next(self._due)
        self.payloads: dict[str, bytes] = dict.fromkeys(federation.names, b"")
        self.total: Residues | None = None

    def request(self, site: str, payload: bytes | None = None) -> SumRequest:
        """What the honest server sends `site` at this stage; or `payload` instead."""
        sent = self.payloads[site] if payload is None else payload
        return self.federation.request(site, self.stage, sent, server_round=self.server_round)

    def ask(self, sites: Iterable[str] | None = None) -> dict[str, SumReply]:
        asked = self.payloads if sites is None else sites
        return {site: self.federation.answered(site, self.request(site)) for site in asked}

    def take(self, replies: Mapping[str, SumReply]) -> None:
        """Moves on to the next stage."""
        server, stage = self._server, self.stage
        messages = [MESSAGES[stage].decode(reply.payload) for reply in replies.values()]
        self.stage = next(self._due, "over")
        if stage == "advertise":
            keys = server.receive_adverts(messages).encode()
            self.payloads = dict.fromkeys(server.present, keys)
        elif stage == "share_keys":
            deliveries = server.receive_shares(messages)
            self.payloads = {site: each.encode() for site, each in deliveries.items()}
        elif stage == "mask_input":
            survivors = server.receive_inputs(messages)
            self.payloads = dict.fromkeys(survivors.survivors, survivors.encode())
        elif stage == "sign_survivors":
            signatures = server.receive_signatures(messages).encode()
            self.payloads = dict.fromkeys(server.present, signatures)
        else:
            self.total, self.payloads = server.receive_unmask(messages), {}

    def to(self, stage: str) -> None:
        """Goes on, all sites answering, until `stage` is due ("over": to the end)."""
        while self.stage != stage:
            self.take(self.ask())
