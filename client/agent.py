"""The site agent: it owns data, policy, ledger, sampling, private step and release.

In a simulation the ClientApp calls it in its own process. Whatever the coordinator asks
for passes here: policy first, then the ledger's budget, then training, and the charge is
committed with the very bytes that leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from client.cooccurrence_release import Cooccurrence, CooccurrenceRelease
from client.kept_agents import KeptAgents, agent_bytes
from client.ledger import Ledger
from client.metrics_release import MetricsRelease
from client.peers import secagg_pins
from client.policy import SitePolicy
from client.release import (
    ReleasePlan,
    charge_release,
    enforce_budget,
    noisy_popularity,
    stored_release,
)
from client.site_by_site import SITE_BY_SITE
from client.site_data import SiteData, load_site
from client.site_setup import ledger_of, node_folder, policy_of
from client.site_sums import SiteSums
from client.site_training import SiteTraining
from client.sum_release import SumLedger
from client.training_job import Trainer
from common.base_weights import resolve_base_weights
from common.config import RunConfig
from common.context import ContextEncoder
from common.errors import MessageError, PolicyRefusal, Refusal
from common.flat_adapter import Floats
from common.initial_adapter import adapter_shapes
from common.messages import (
    CooccurrenceReply,
    CooccurrenceRequest,
    EnrolReply,
    EnrolRequest,
    EvaluateReply,
    EvaluateRequest,
    NoisedMetricsReply,
    PopularityReply,
    PopularityRequest,
    SumReply,
    SumRequest,
    TrainReply,
    TrainRequest,
)
from common.noise_plan import popularity_event, round_event
from common.privacy_units import Unit, make_units
from common.randomness import RandomSource, secure_source, seeded_source
from common.release_record import COUNTS_TENSOR, counts_payload


class SiteAgent:
    """One site in one run; see the module's docstring."""

    def __init__(
        self,
        data: SiteData,
        config: RunConfig,
        policy: SitePolicy,
        ledger: Ledger,
        trainer: Trainer = SITE_BY_SITE,
    ) -> None:
        """Binds the site's data, limits and ledger to the run's configuration.

        Args:
            data: The site's own users.
            config: The run's configuration; its hash must be in every request.
            policy: The site's limits.
            ledger: The site's lifelong record.
            trainer: Computes the site's training; it decides nothing.
        """
        self.data = data
        self.config = config
        self.policy = policy
        self.ledger = ledger
        self.splits = data.splits(config.data.split, config.data.seed, config.data.cut)
        self.units: list[Unit] = make_units(
            self.splits,
            max_history=config.model.max_history,
            unit=config.privacy.unit,
            encoder=ContextEncoder.of(config.model),
            shown=data.shown_for(config),
        )
        self._pairs = Cooccurrence(config, self.units, self.splits)
        self._training = SiteTraining(data, config, self.units, self._source, trainer)
        self._sums = SiteSums(
            SumLedger(data, config, policy, ledger),
            lambda: secagg_pins(data, policy, ledger),
            vector=self._exact_sum,
            noise=lambda request: self._source(f"noise:{request.purpose}", request.server_round),
        )

    def popularity(self, request: PopularityRequest) -> PopularityReply:
        """Releases the site's popularity counts, once per run."""
        with self._refusals_entered(request.run, 0, "popularity"):
            return self._popularity(request)

    def _popularity(self, request: PopularityRequest) -> PopularityReply:
        self._check(request.config_sha256)
        self._check_own_release()
        event = popularity_event(self.config)
        plan = ReleasePlan(request.run, 0, "popularity", event, divisor=1.0, max_grad_norm=1.0)
        stored = stored_release(self.ledger, plan)
        if stored is None:
            enforce_budget(self.ledger, plan, self.policy)
            counts = noisy_popularity(
                self.units,
                len(self.data.catalogue),
                noise_multiplier=0.0 if event is None else event.noise_multiplier,
                noise=None if event is None else self._source("popularity", 0),
            )
            stored = charge_release(
                self.ledger,
                plan,
                counts_payload(counts),
                self.config,
                self.data.site,
                self.policy,
            )
        tensors, record = stored
        return PopularityReply(
            site=self.data.site,
            config_sha256=request.config_sha256,
            counts=tensors[COUNTS_TENSOR],
            release=record,
            declared_units=self.data.declared(self.config.privacy.unit),
        )

    def cooccurrence(self, request: CooccurrenceRequest) -> CooccurrenceReply:
        """Releases the site's co-occurrence of items, once per run."""
        with self._refusals_entered(request.run, 0, "cooccurrence"):
            self._check(request.config_sha256)
            self._check_own_release()
            release = CooccurrenceRelease(self.data, self.config, self.policy, self.ledger)
            return release.answer(
                request,
                exact=lambda: self._pairs.exact(request.item_prior, len(self.data.catalogue)),
                noise=lambda: self._source("cooccurrence", 0),
            )

    def train(self, request: TrainRequest) -> TrainReply:
        """Trains one round from the received adapter and releases the update."""
        with self._refusals_entered(request.run, request.server_round, "update"):
            return self._train(request)

    def _train(self, request: TrainRequest) -> TrainReply:
        self._check(request.config_sha256)
        self._check_own_release()
        plan = ReleasePlan(
            request.run,
            request.server_round,
            "update",
            round_event(self.config),
            divisor=self._training.expected_units if self.config.is_private else 1.0,
            max_grad_norm=self.config.privacy.max_grad_norm,
        )
        with self.ledger.held():
            stored = stored_release(self.ledger, plan)
            if stored is None:
                enforce_budget(self.ledger, plan, self.policy)
        if stored is None:
            update = self._training.update(request)
            stored = charge_release(
                self.ledger, plan, update, self.config, self.data.site, self.policy
            )
        tensors, record = stored
        return TrainReply(
            site=self.data.site,
            server_round=request.server_round,
            config_sha256=request.config_sha256,
            update=tensors,
            release=record,
            declared_units=self.data.declared(self.config.privacy.unit),
        )

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """States what the site declares in public; it holds nothing of its users."""
        with self._refusals_entered(request.run, 0, "enrolment"):
            self._check(request.config_sha256)
        catalogue = self.data.catalogue
        return EnrolReply(
            site=self.data.site,
            config_sha256=request.config_sha256,
            identity=self.ledger.identity.public_key,
            declared_units=self.data.declared(self.config.privacy.unit),
            catalogue_size=len(catalogue),
            catalogue_sha256=catalogue.sha256,
        )

    def add_up(self, request: SumRequest) -> SumReply:
        """Takes the site's next step in a sum over all sites; see `client.site_sums`."""
        with self._refusals_entered(request.run, request.server_round, request.purpose):
            self._check(request.config_sha256)
            return self._sums.answer(request, adapter_shapes(self.config))

    def evaluate(self, request: EvaluateRequest) -> EvaluateReply | NoisedMetricsReply:
        """Answers about metrics: exact sums (lab only), or noised and charged ones."""
        with self._refusals_entered(request.run, request.server_round, "metrics"):
            self._check(request.config_sha256)
            release = MetricsRelease(self.data, self.config, self.policy, self.ledger)
            return release.answer(
                request,
                measure=lambda: self._training.measured(request, self.splits),
                noise=lambda: self._source(f"metrics:{request.stage}", request.server_round),
            )

    def _exact_sum(self, request: SumRequest) -> Floats:
        if request.purpose == "cooccurrence":
            return self._pairs.exact(request.item_prior, len(self.data.catalogue))
        return self._training.exact_sum(request)

    @contextmanager
    def _refusals_entered(self, run: str, server_round: int, kind: str) -> Iterator[None]:
        """A refusal of what was asked is entered in the ledger before it is answered."""
        try:
            yield
        except Refusal as refusal:
            self.ledger.record_refusal((run, server_round, kind), refusal)
            raise

    def _check(self, config_sha256: str) -> None:
        if config_sha256 != self.config.sha256():
            raise MessageError(
                f"request carries config hash {config_sha256[:12]}…, this site runs "
                f"{self.config.sha256()[:12]}…; start both with the same configuration"
            )
        self.policy.check_run(self.config)
        self.data.declared(self.config.privacy.unit)
        if self.config.evaluation.audit_canaries and not self.data.simulated:
            raise PolicyRefusal(
                f"evaluation.audit_canaries={self.config.evaluation.audit_canaries}: an audit run "
                "keeps its sums and mixes made-up users with real ones, which no site with real "
                "users takes part in; set evaluation.audit_canaries=0"
            )
        if self.policy.base_weights_sha256 is not None:
            self.policy.check_base_weights(resolve_base_weights(self.config.model.weights).sha256)

    def _check_own_release(self) -> None:
        """In a mode of sums nothing leaves a site but its part in a sum."""
        if self.config.is_summed:
            mode = self.config.privacy.mode
            raise PolicyRefusal(
                f"in privacy.mode={mode} a site releases its part in a sum over all sites and "
                "nothing of its own; ask for a sum"
            )

    def _source(self, purpose: str, server_round: int) -> RandomSource:
        """Secure randomness; seeded only in mode `none` (no claim) or a marked run."""
        if self.config.is_private and not self.config.privacy.insecure_seeded_noise:
            return secure_source()
        return seeded_source(
            self.config.federation.seed, self.data.site, str(server_round), purpose
        )


def agent_for(
    node_config: Mapping[str, object], config: RunConfig, trainer: Trainer = SITE_BY_SITE
) -> SiteAgent:
    """The agent of a node; the process keeps those that it used last.

    Args:
        node_config: of the node; see `client.site_setup.node_folder`.
        config: the run's configuration.
        trainer: computes the site's training; an agent kept for another one is not taken.

    Raises:
        FedrecError: the node names no site, or its data, policy or ledger cannot be used.
    """
    path = node_folder(node_config, config)
    drawn = config.federation.sites_per_round  # such sites hardly ever come again soon
    key = (path, config, trainer)
    return _kept.get(key, lambda: _agent(path, config, trainer), at_most=drawn)


_kept = KeptAgents[SiteAgent](lambda agent: agent_bytes(agent.data, agent.units))


def kept_agents() -> int:
    """How many agents this process keeps."""
    return len(_kept)


def _agent(folder: Path, config: RunConfig, trainer: Trainer) -> SiteAgent:
    data = load_site(folder)
    policy = policy_of(folder, config, is_simulated=data.simulated)
    return SiteAgent(data, config, policy, ledger_of(folder, data, policy).open(), trainer)


def forget_agents() -> None:
    """Drops the agents that this process keeps; their sites may go away now."""
    _kept.clear()
