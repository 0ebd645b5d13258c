"""Sums over all sites: by secure aggregation (`distributed`), or in the open (`central`).

In `distributed` the server never holds more than the masked sum over the surviving sites;
in `central` it holds every site's exact part and is trusted to add the noise. Where transcripts
are kept (`server.sum_transcript`), a sum that a killed server had begun is finished by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from flwr.serverapp.grid import Grid

from common.config import RunConfig
from common.discrete_noise import discrete_gaussian
from common.errors import MessageError, PrivacyError, RoundAbandoned
from common.flat_adapter import Floats
from common.messages import SumRequest, SumStage
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
from server.enrolment import Enrolment
from server.invitations import invited_now, too_few_for_a_sum
from server.reply_reading import ReplyReader
from server.roster import Member, Roster
from server.round_record import RoundOutcome, SiteRound
from server.secagg_coordinator import SecAggCoordinator
from server.sum_exchange import FromSite, SumExchange
from server.sum_transcript import NOISED, SumTranscript, discard_transcripts

M = TypeVar("M", bound=FromSite)

_MESSAGE_OVERHEAD = 4096
_BYTES_PER_SITE = 1024


class SumRounds:
    """The sums of one run, over the sites that have not left it.

    Attributes:
        has_too_few: whether too few sites came for the last sum: nobody was asked.
    """

    def __init__(
        self,
        config: RunConfig,
        reader: ReplyReader,
        listener: ProgressListener,
        run_folder: Path | None = None,
    ) -> None:
        """Binds the sums to the run.

        Args:
            config: the run's configuration.
            reader: reads the replies; it knows the run's name.
            listener: hears of each released part.
            run_folder: where transcripts are kept; None: a sum dies with this process.
        """
        self._config, self._reader, self._listener = config, reader, listener
        self._run_folder = run_folder
        self._enrolment = Enrolment(config, reader)
        self._invited: Mapping[str, Member] = {}
        self.has_too_few = False

    @property
    def roster(self) -> Roster:
        """The enrolled sites."""
        return self._enrolment.roster

    def enrol(self, grid: Grid) -> RoundOutcome:
        """Asks every node that is new what its site declares; only such sites are summed over.

        Returns:
            What every site did that was asked; those that did not enrol are in the next sum's
            outcome, too.
        """
        return self._enrolment.ask(grid)

    def declared_units(self, outcome: RoundOutcome) -> int:
        """Declared units of the sites whose parts are in the last sum: public figures."""
        good = [site.site for site in outcome.sites if site.status == "ok"]
        return sum(self._invited[site].declared_units for site in good)

    def add_up(
        self, grid: Grid, template: SumRequest, plan: QuantisationPlan
    ) -> tuple[Floats | None, RoundOutcome]:
        """One sum over the roster; or the rest of it, where it was begun before.

        Args:
            grid: carries the messages.
            template: run, round, purpose, and what the sites train from.
            plan: the sum's grid, modulus and noise.

        Returns:
            The noised sum ``[d]``, or None where the round was abandoned (`outcome.fault` says
            why), and what every invited site did.
        """
        transcript = self._transcript(template)
        invited = invited_now(grid, self._enrolment, transcript)
        self.has_too_few = invited is None
        if invited is None:
            return None, too_few_for_a_sum(grid, self._enrolment)
        self._invited = invited.members
        exchange = self._exchange(grid, invited, plan)
        template = replace(template, participants=tuple(sorted(invited.members)))
        if self._config.privacy.mode == "central":
            total, outcome = self._in_the_open(exchange, template, plan, transcript)
        else:
            total, outcome = self._securely(exchange, template, plan, transcript)
        self._enrolment.note(outcome, abandoned=total is None)
        sites = (*outcome.sites, *self._enrolment.take_left_out())
        return total, replace(outcome, sites=tuple(sorted(sites, key=lambda line: line.site)))

    def _transcript(self, template: SumRequest) -> SumTranscript:
        number = sum_number(self._config, template.purpose, template.server_round)
        if self._run_folder is not None:
            discard_transcripts(self._run_folder, but=number)  # those are on record
        return SumTranscript(self._run_folder, template.run, number)

    def _securely(
        self,
        exchange: SumExchange,
        template: SumRequest,
        plan: QuantisationPlan,
        transcript: SumTranscript,
    ) -> tuple[Floats | None, RoundOutcome]:
        try:
            return self._secure_round(exchange, template, plan, transcript)
        except (RoundAbandoned, PrivacyError, MessageError) as fault:
            return None, replace(exchange.outcome(frozenset()), fault=str(fault))

    def _secure_round(
        self,
        exchange: SumExchange,
        template: SumRequest,
        plan: QuantisationPlan,
        transcript: SumTranscript,
    ) -> tuple[Floats, RoundOutcome]:
        """The five stages of `common.secagg.messages`."""
        names = template.participants
        number = sum_number(self._config, template.purpose, template.server_round)
        spec = round_spec(self._config, template.run, number, names, plan)
        plan.check_round(spec)
        identities = {name: self._invited[name].identity for name in names}
        server = SecAggCoordinator(spec, identities)
        light = replace(template, adapter={}, item_prior=np.zeros(0, dtype=np.float32))

        def asked(stage: SumStage, payloads: dict[str, bytes], kind: type[M]) -> list[M]:
            finished = transcript.stage(stage)
            if finished is not None:
                exchange.take_up(finished)
                return [kind.decode(answer) for answer in finished.answers.values()]
            base = template if stage == "mask_input" else light
            requests = {
                site: replace(base, stage=stage, payload=payload)
                for site, payload in payloads.items()
            }
            said = exchange.ask_for_own(requests, kind.decode)
            transcript.keep(stage, exchange.kept({each.site: each.encode() for each in said}))
            return said

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
        self,
        exchange: SumExchange,
        template: SumRequest,
        plan: QuantisationPlan,
        transcript: SumTranscript,
    ) -> tuple[Floats | None, RoundOutcome]:
        """Adds up exact parts and the noise of the whole sum, on the same grid.

        The noise is drawn once for a sum: the noised sum is written down before anything can
        follow from it, and is what a restarted server takes. (Sums that one draw each had been
        shown of could be averaged. One that is lost in memory was shown to nobody.)
        """
        finished = transcript.stage(NOISED)
        if finished is not None:
            exchange.take_up(finished)
            total = modular.unpack(finished.total, plan.coordinates, plan.modulus_bits)
            return dequantise(total, plan), exchange.outcome(frozenset(finished.answers))

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
        total = modular.reduce(total, plan.modulus_bits)
        packed = modular.pack(total, plan.modulus_bits)
        transcript.keep(NOISED, exchange.kept(dict.fromkeys(parts, b""), packed))
        return dequantise(total, plan), outcome

    def _exchange(self, grid: Grid, invited: Roster, plan: QuantisationPlan) -> SumExchange:
        packed = modular.packed_size(plan.coordinates, plan.modulus_bits)
        return SumExchange(
            grid,
            invited,
            self._reader,
            self._listener,
            deadline_s=self._config.federation.round_deadline_s,
            limit=packed + _MESSAGE_OVERHEAD + _BYTES_PER_SITE * len(invited.members),
        )
