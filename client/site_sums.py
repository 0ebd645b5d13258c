"""A site's part in a sum over all sites: modes `distributed` and `central`.

In `distributed` the site walks through one round of secure aggregation per sum, a message at
a time, and its part leaves masked and with its share of the noise. In `central` its exact
part leaves and the server adds the noise. Either way the part is charged to the ledger with
its very bytes before it may leave, and a retry gets the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from client.peer_checkpoints import PeerCheckpoints
from client.secagg_policy import RoundGate, SecAggPolicy
from client.secagg_site import SecAggSite
from client.secagg_stages import answer_stage
from client.sum_release import SumLedger, SumRelease
from client.sum_store import OpenRound, SumStore
from common.discrete_noise import masked_sum_input
from common.errors import MessageError, PrivacyError, Refusal, SecAggRefusal
from common.flat_adapter import Floats
from common.message_records import Shapes
from common.messages import RELEASING, SumReply, SumRequest
from common.randomness import RandomSource
from common.release_record import ReleaseRecord
from common.secagg.messages import ShareDelivery
from common.secagg.modular import from_signed, pack
from common.secagg.quantisation import QuantisationPlan, quantise
from common.secagg.round_spec import RoundSpec
from common.sum_plan import round_spec, sum_number


class SiteSums:
    """One site in the sums of a run; see the module's docstring."""

    def __init__(
        self,
        ledger: SumLedger,
        pins: Callable[[], SecAggPolicy],
        *,
        vector: Callable[[SumRequest], Floats],
        noise: Callable[[SumRequest], RandomSource],
    ) -> None:
        """Binds the site's limits and record to the two things that a part is made of.

        Args:
            ledger: the site's limits and record.
            pins: the peers' identity keys, asked for in every round.
            vector: makes the site's exact sum ``[d]``, by training where that is asked for.
            noise: the source of rounding and noise.
        """
        self._ledger, self._pins, self._vector, self._noise = ledger, pins, vector, noise
        self._store = SumStore(ledger.ledger.path.parent)
        self._peers = PeerCheckpoints(ledger.ledger.path.parent)

    def answer(self, request: SumRequest, shapes: Shapes) -> SumReply:
        """The site's message of the stage that is asked for.

        Args:
            request: what the server asks.
            shapes: the adapter's tensor shapes by name.

        Raises:
            Refusal: the policy, the budget or the protocol does not allow it; the site's
                part in this round has ended then.
            MessageError: the stage's message is broken.
        """
        mode = self._ledger.config.privacy.mode
        if mode != ("central" if request.stage == "exact" else "distributed"):
            raise MessageError(f"a sum has no stage {request.stage} in privacy.mode={mode}")
        asked = self._ledger.planned(request, shapes)
        if request.stage == "exact":
            return self._reply(
                request, *self._ledger.released(asked, lambda: self._exact(request, asked.plan))
            )
        with self._store.locked():
            try:
                return self._secure(request, asked)
            except (Refusal, MessageError):
                self._store.close(request.run.encode(), self._number(request))
                raise

    def _exact(self, request: SumRequest, plan: QuantisationPlan) -> bytes:
        values, source = self._vector(request), self._noise(request)
        integers = quantise(values, source.uniform(plan.coordinates), plan)
        return pack(from_signed(integers, plan.modulus_bits), plan.modulus_bits)

    def _secure(self, request: SumRequest, asked: SumRelease) -> SumReply:
        spec = self._spec(request, asked.plan)
        opened = self._store.open_round(spec.run, spec.server_round)
        digest = hashlib.sha256(request.payload).hexdigest()
        again = self._answered_before(request, asked, opened, digest)
        if again is not None:
            return again
        if request.stage == "advertise" and opened is None:
            opened, site = self._entered(spec, asked)
        else:
            opened, site = self._resumed(spec, opened)
        record: ReleaseRecord | None = None
        if request.stage in RELEASING:
            opened = self._taken_up(spec, site, opened, digest)
            payload, record = self._masked(site, request, asked)
        else:
            checkpoint = self._ledger.ledger.checkpoint().text().encode()
            payload = answer_stage(site, request.stage, request.payload, checkpoint)
        if request.stage == "share_keys":
            self._peers.keep(site.neighbour_adverts, self._pins().peers)
        answer = digest, "" if record is not None else payload.hex()
        answered = opened.answered | {request.stage: answer}
        self._store.keep(spec.run, replace(opened, part=site.saved(), answered=answered))
        return self._reply(request, payload, record)

    def _answered_before(
        self, request: SumRequest, asked: SumRelease, opened: OpenRound | None, digest: str
    ) -> SumReply | None:
        """The very same answer to the very same message; to another one, there is none."""
        if opened is None or opened.participants != request.participants:
            return None
        before, reply = opened.answered.get(request.stage, ("", ""))
        if before != digest:
            return None
        if request.stage not in RELEASING:
            return self._reply(request, bytes.fromhex(reply), None)
        stored = self._ledger.stored(asked)
        return None if stored is None else self._reply(request, *stored)

    def _entered(self, spec: RoundSpec, asked: SumRelease) -> tuple[OpenRound, SecAggSite]:
        """A new round: refused here already where the site could not afford its release."""
        if self._ledger.stored(asked) is not None:
            raise SecAggRefusal("replay", f"sum {spec.server_round} was released before")
        self._ledger.enforce(asked)
        site = SecAggSite(self._pins(), spec, RoundGate(self._store.last_rounds()))
        return OpenRound(spec.server_round, spec.participants, {}), site

    def _taken_up(
        self, spec: RoundSpec, site: SecAggSite, opened: OpenRound, digest: str
    ) -> OpenRound:
        """Binds the input to the first delivery, before anything is charged.

        Bytes that were charged just before a crash are masked for that delivery: with another
        one they would belong to no sum that the site's signature can speak for.
        """
        site.check_due("mask_input")
        if opened.delivery not in ("", digest):
            raise SecAggRefusal("inconsistent", "the input was asked for with other shares before")
        taken = replace(opened, delivery=digest)
        self._store.keep(spec.run, taken)
        return taken

    def _resumed(self, spec: RoundSpec, opened: OpenRound | None) -> tuple[OpenRound, SecAggSite]:
        if opened is None:
            raise SecAggRefusal("out_of_order", "this site is not in this round")
        if opened.participants != spec.participants:
            raise SecAggRefusal("inconsistent", "the participants of the round have changed")
        return opened, SecAggSite.resumed(self._pins(), spec, opened.part)

    def _masked(
        self, site: SecAggSite, request: SumRequest, asked: SumRelease
    ) -> tuple[bytes, ReleaseRecord]:
        """Trains, noises, masks and charges; after a crash in between, what was charged."""
        delivery, plan = ShareDelivery.decode(request.payload), asked.plan
        stored = self._ledger.stored(asked)
        if stored is not None:  # the part has left already: only the site's state is caught up
            site.mask_input(delivery, np.zeros(plan.coordinates, np.uint64))
            return stored

        def make() -> bytes:
            vector = masked_sum_input(self._vector(request), plan, self._noise(request))
            return site.mask_input(delivery, vector).encode()

        return self._ledger.released(asked, make)

    def _number(self, request: SumRequest) -> int:
        return sum_number(self._ledger.config, request.purpose, request.server_round)

    def _spec(self, request: SumRequest, plan: QuantisationPlan) -> RoundSpec:
        """The round as this site computes it; only who takes part is the server's word."""
        config = self._ledger.config
        try:
            number = self._number(request)
            spec = round_spec(config, request.run, number, request.participants, plan)
            plan.check_round(spec)
        except (PrivacyError, MessageError) as error:
            raise SecAggRefusal("below_threshold", str(error)) from error
        return spec

    def _reply(self, request: SumRequest, payload: bytes, record: ReleaseRecord | None) -> SumReply:
        return SumReply(
            site=self._ledger.data.site,
            server_round=request.server_round,
            config_sha256=request.config_sha256,
            stage=request.stage,
            payload=payload,
            release=record,
        )
