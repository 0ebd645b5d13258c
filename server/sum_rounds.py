"""Sums over all sites: by secure aggregation (`distributed`), or in the open (`central`).

In `distributed` the server never holds more than the masked sum over the surviving sites;
in `central` it holds every site's exact part and is trusted to add the noise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from flwr.app import Message
from flwr.serverapp.grid import Grid

from common.config import RunConfig
from common.discrete_noise import discrete_gaussian
from common.errors import MessageError, PrivacyError, RoundAbandoned
from common.flat_adapter import Floats
from common.messages import (
    ENROL_QUERY,
    EnrolRequest,
    SumRequest,
    SumStage,
    encode_enrol_request,
)
from common.progress import ProgressListener
from common.randomness import secure_source, seeded_source
from common.secagg import modular
from common.secagg.messages import (
    KeyAdvert,
    MaskedInput,
    ShareUpload,
    SurvivorSignature,
    UnmaskShares,
)
from common.secagg.quantisation import QuantisationPlan, dequantise
from common.sum_plan import round_spec, sum_number
from server.reply_reading import ReplyReader
from server.roster import Roster, enrolled
from server.round_record import RoundOutcome, SiteRound
from server.secagg_coordinator import SecAggCoordinator
from server.sum_exchange import NOT_SUMMED, FromSite, SumExchange

M = TypeVar("M", bound=FromSite)

_MESSAGE_OVERHEAD = 4096
_BYTES_PER_SITE = 1024
_LASTING = ("BudgetRefusal", "PolicyRefusal")
"""Refusals after which a site is not asked again in the run."""


class SumRounds:
    """The sums of one run, over the sites that have not left it."""

    def __init__(self, config: RunConfig, reader: ReplyReader, listener: ProgressListener) -> None:
        """Binds the sums to the run.

        Args:
            config: the run's configuration.
            reader: reads the replies; it knows the run's name.
            listener: hears of each released part.
        """
        self._config, self._reader, self._listener = config, reader, listener
        self.roster = Roster({}, 0)
        self._silent: set[str] = set()
        self._not_enrolled: tuple[SiteRound, ...] = ()

    def enrol(self, grid: Grid) -> RoundOutcome:
        """Asks every node what its site declares; without this there is nobody to sum over.

        Returns:
            What every site did; those that did not enrol are in the first sum's outcome, too.
        """
        content = encode_enrol_request(EnrolRequest(self._reader.run, self._reader.config_sha256))
        deadline = self._config.federation.round_deadline_s
        messages = [
            Message(content, node, ENROL_QUERY, ttl=deadline, group_id="0")
            for node in sorted(grid.get_node_ids())
        ]
        replies = list(grid.send_and_receive(messages, timeout=deadline))
        self.roster, outcome = enrolled(replies, self._reader)
        silent = set(grid.get_node_ids()) - {reply.metadata.src_node_id for reply in replies}
        reason = f"no reply to enrolment within federation.round_deadline_s={deadline:g}"
        late = [SiteRound(self._reader.site_name(node), "error", reason) for node in silent]
        outcome = RoundOutcome(tuple(sorted([*outcome.sites, *late], key=lambda line: line.site)))
        self._not_enrolled = tuple(line for line in outcome.sites if line.status != "ok")
        return outcome

    def declared_units(self, outcome: RoundOutcome) -> int:
        """Declared units of the sites whose parts are in a sum: public figures."""
        good = [site.site for site in outcome.sites if site.status == "ok"]
        return sum(self.roster.members[site].declared_units for site in good)

    def add_up(
        self, grid: Grid, template: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats | None, RoundOutcome]:
        """One sum over the roster.

        Args:
            grid: carries the messages.
            template: run, round, purpose, and what the sites train from.
            plan: the sum's grid, modulus and noise.

        Returns:
            The noised sum ``[d]``, or None where the round was abandoned (`outcome.fault` says
            why), and what every invited site did.
        """
        exchange = self._exchange(grid, plan)
        template = replace(template, participants=tuple(sorted(self.roster.members)))
        if self._config.privacy.mode == "central":
            total, outcome = self._in_the_open(exchange, template, plan)
        else:
            total, outcome = self._securely(exchange, template, plan)
        self._leave_out(outcome, abandoned=total is None)
        sites, self._not_enrolled = (*outcome.sites, *self._not_enrolled), ()
        return total, replace(outcome, sites=tuple(sorted(sites, key=lambda line: line.site)))

    def _securely(
        self, exchange: SumExchange, template: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats | None, RoundOutcome]:
        try:
            return self._secure_round(exchange, template, plan)
        except (RoundAbandoned, PrivacyError, MessageError) as fault:
            return None, replace(exchange.outcome(frozenset()), fault=str(fault))

    def _secure_round(
        self, exchange: SumExchange, template: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats, RoundOutcome]:
        """The five stages of `common.secagg.messages`."""
        names = template.participants
        number = sum_number(self._config, template.purpose, template.server_round)
        spec = round_spec(self._config, template.run, number, names, plan)
        plan.check_round(spec)
        identities = {name: self.roster.members[name].identity for name in names}
        server = SecAggCoordinator(spec, identities)
        light = replace(template, adapter={}, item_prior=np.zeros(0, dtype=np.float32))

        def asked(stage: SumStage, payloads: dict[str, bytes], kind: type[M]) -> list[M]:
            base = template if stage == "mask_input" else light
            requests = {
                site: replace(base, stage=stage, payload=payload)
                for site, payload in payloads.items()
            }
            return exchange.ask_for_own(requests, kind.decode)

        try:
            adverts = asked("advertise", dict.fromkeys(names, b""), KeyAdvert)
            keys = server.receive_adverts(adverts).encode()
            uploads = asked("share_keys", dict.fromkeys(server.present, keys), ShareUpload)
            deliveries = server.receive_shares(uploads)
            payloads = {site: delivery.encode() for site, delivery in deliveries.items()}
            survivors = server.receive_inputs(asked("mask_input", payloads, MaskedInput))
            summed = frozenset(survivors.survivors)
            payloads = dict.fromkeys(sorted(summed), survivors.encode())
            signatures = asked("sign_survivors", payloads, SurvivorSignature)
            signed = server.receive_signatures(signatures).encode()
            shares = asked("unmask", dict.fromkeys(server.present, signed), UnmaskShares)
            total = server.receive_unmask(shares)
        finally:
            for site, reason in server.rejected.items():
                exchange.fault(SiteRound(site, "error", f"MessageError: {reason}"))
        return dequantise(total, plan), exchange.outcome(summed)

    def _in_the_open(
        self, exchange: SumExchange, template: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats | None, RoundOutcome]:
        """Adds up exact parts and the noise of the whole sum, on the same grid."""

        def decode(payload: bytes) -> modular.Residues:
            return modular.unpack(payload, plan.coordinates, plan.modulus_bits)

        request = replace(template, stage="exact")
        parts = exchange.ask(dict.fromkeys(template.participants, request), decode)
        outcome = exchange.outcome(frozenset(parts))
        if len(parts) < self._config.federation.min_sites:
            return None, replace(outcome, fault=f"{len(parts)} sites sent a part")
        source = secure_source()
        if self._config.privacy.insecure_seeded_noise:
            seed, server_round = self._config.federation.seed, str(template.server_round)
            source = seeded_source(seed, "server", template.purpose, server_round)
        noise = discrete_gaussian(plan.share_std, plan.coordinates, source)
        total = modular.from_signed(noise, plan.modulus_bits)
        for part in parts.values():
            total = total + part
        return dequantise(modular.reduce(total, plan.modulus_bits), plan), outcome

    def _leave_out(self, outcome: RoundOutcome, *, abandoned: bool) -> None:
        """Sites whose budget or policy said no are not invited again.

        Nor are those that gave no answer in two abandoned sums in a row: each further one
        would wait for them, be abandoned as well, and charge the others.
        """
        left = {
            line.site
            for line in outcome.sites
            if line.status == "refused" and str(line.reason).startswith(_LASTING)
        }
        silent = {
            line.site
            for line in outcome.sites
            if abandoned and line.status == "error" and line.reason != NOT_SUMMED
        }
        self.roster = self.roster.without(left | (silent & self._silent))
        self._silent = silent

    def _exchange(self, grid: Grid, plan: QuantisationPlan) -> SumExchange:
        packed = modular.packed_size(plan.coordinates, plan.modulus_bits)
        return SumExchange(
            grid,
            self.roster,
            self._reader,
            self._listener,
            deadline_s=self._config.federation.round_deadline_s,
            limit=packed + _MESSAGE_OVERHEAD + _BYTES_PER_SITE * len(self.roster.members),
        )
