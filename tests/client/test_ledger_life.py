"""A site's life, at random: runs, crashes, restarts, rollbacks, new limits.

Whatever happens, the ε implied by the bytes that really left never passes the largest
limit that the operator ever set; and where the host was not set back together with the
server's copies, the ledger verifies.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from client import ledger as ledger_module
from client.ledger import Ledger
from client.ledger_file import LedgerFile
from client.ledger_log import entries
from client.policy import SitePolicy
from client.release import ReleasePlan, charge_release, enforce_budget, stored_release
from client.site_ledger import SiteLedger, site_ledger
from common.accounting import epsilon
from common.adapters import adapter_sha256
from common.config import RunConfig
from common.errors import BudgetRefusal, LedgerError, Refusal
from common.ledger_checkpoint import Checkpoint
from common.privacy_events import GaussianEvent, event_from_dict
from common.release_record import ReleaseRecord

CONFIG = RunConfig()
DELTA = CONFIG.privacy.target_delta
SIGMAS = st.sampled_from([3.0, 4.0, 5.0])


def entries_of(site: SiteLedger) -> list[dict[str, Any]]:
    """What the database holds, read without the ledger's checks."""
    with LedgerFile(site.path).connection() as connection:
        return entries(connection)


class _Killed(Exception):
    """The process died here."""


class SiteLife(RuleBasedStateMachine):
    """One site, its operator, and a server that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.left: dict[tuple[str, int, str], tuple[Any, str]] = {}
        self.kept: list[Checkpoint] = []
        self.rounds = dict.fromkeys("abc", 0)
        self.backup: Path | None = None

    @initialize(limit=st.sampled_from([1.5, 2.0]))
    def begin(self, limit: float) -> None:
        self.policy = SitePolicy(max_epsilon=limit, max_delta=DELTA, max_epsilon_per_run=2.5)
        self.most = limit
        (self.folder / "site").mkdir()
        self.site: SiteLedger = site_ledger(
            self.folder / "site",
            ["ann", "bob"],
            site="north",
            unit="user",
            is_simulated=False,
            anchor=self.folder / "anchor",
        )
        self.site.open()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def opened(self) -> Ledger:
        try:
            return self.site.open()
        except LedgerError as error:
            if "rollback" not in str(error):
                raise
            self.site.recover([], self.policy)
            return self.site.open()

    def release(self, ledger: Ledger, run: str, server_round: int, sigma: float) -> None:
        """What the agent does, with a release that needs no model."""
        plan = self.planned(run, server_round, sigma)
        stored = stored_release(ledger, plan)
        if stored is None:
            enforce_budget(ledger, plan, self.policy)
            stored = self.charged(ledger, plan)
        self.sent(plan, stored[1])

    def planned(self, run: str, server_round: int, sigma: float) -> ReleasePlan:
        return ReleasePlan(run, server_round, "update", GaussianEvent(sigma), 1.0, 1.0)

    def charged(self, ledger: Ledger, plan: ReleasePlan) -> tuple[Any, ReleaseRecord]:
        noise = np.random.default_rng().normal(size=3).astype(np.float32)
        tensors, record = charge_release(ledger, plan, {"w": noise}, CONFIG, "north", self.policy)
        assert record.payload_sha256 == adapter_sha256(tensors)
        return tensors, record

    def sent(self, plan: ReleasePlan, record: ReleaseRecord) -> None:
        left = (record.event, record.payload_sha256)
        assert self.left.setdefault(plan.key, left) == left or self.backup is not None
        self.left[(*plan.key[:2], record.payload_sha256)] = left
        self.kept.append(Checkpoint.model_validate(record.ledger_checkpoint, strict=False))

    @rule(run=st.sampled_from("abc"), sigma=SIGMAS, is_retry=st.booleans())
    def train(self, run: str, sigma: float, is_retry: bool) -> None:
        self.rounds[run] += not is_retry
        ledger = self.opened()
        before = len(ledger.history())
        try:
            self.release(ledger, run, self.rounds[run], sigma)
        except Refusal as refusal:
            ledger.record_refusal((run, self.rounds[run], "update"), refusal)
            assert len(ledger.history()) == before

    @rule(run=st.sampled_from("abc"), sigma=SIGMAS, is_same=st.booleans())
    def race(self, run: str, sigma: float, is_same: bool) -> None:
        """Two processes have both checked the budget; the slower one comes to charge."""
        self.rounds[run] += 1
        slow, fast = self.opened(), self.opened()
        mine = self.planned(run, self.rounds[run], sigma)
        self.rounds[run] += not is_same
        other = self.planned(run, self.rounds[run], sigma)
        try:
            enforce_budget(slow, mine, self.policy)
            enforce_budget(fast, other, self.policy)
        except Refusal:
            return
        self.sent(other, self.charged(fast, other)[1])
        before = len(fast.history())
        try:
            stored = self.charged(slow, mine)
        except LedgerError as error:
            if "another process charged" not in str(error):
                raise
        else:
            assert is_same  # the same release: it is handed out again, and paid for once
            self.sent(mine, stored[1])
        assert len(fast.history()) == before

    @rule(run=st.sampled_from("abc"), is_checked=st.booleans())
    def charge_what_was_not_checked(self, run: str, is_checked: bool) -> None:
        """A fault of the agent: it checks a cheap release, or none, and charges a dear one."""
        self.rounds[run] += 1
        ledger = self.opened()
        before = ledger.history()
        if is_checked:
            try:
                enforce_budget(ledger, self.planned(run, self.rounds[run], 5.0), self.policy)
            except Refusal:
                return
        plan = self.planned(run, self.rounds[run], 0.5)
        with pytest.raises(LedgerError, match="the budget was not checked"):
            self.charged(ledger, plan)
        assert ledger.history() == before

    @precondition(lambda self: self.backup is not None)
    @rule(sigma=SIGMAS, is_checked=st.booleans())
    def restore_under_a_running_process(self, sigma: float, is_checked: bool) -> None:
        """The old file comes back while an agent has the ledger open, and may have checked."""
        assert self.backup is not None
        self.rounds["a"] += 1
        running, plan = self.opened(), self.planned("a", self.rounds["a"], sigma)
        try:
            if is_checked:
                enforce_budget(running, plan, self.policy)
        except Refusal:
            return
        newest = running.checkpoint().tree_size
        shutil.copy(self.backup, self.site.path)
        size = len(entries_of(self.site))
        if size == newest:
            return
        if is_checked:
            with pytest.raises(LedgerError):
                self.charged(running, plan)
        else:  # before any training
            with pytest.raises(LedgerError, match="rollback"):
                enforce_budget(running, plan, self.policy)
        with pytest.raises(LedgerError, match="rollback"):
            running.record_refusal(plan.key, BudgetRefusal("no"))
        assert len(entries_of(self.site)) == size  # nothing was written to it

    @rule(run=st.sampled_from("abc"), sigma=SIGMAS, point=st.sampled_from(
        ["append_entry", "seal_next", "bring_forward"]
    ), is_after=st.booleans())  # fmt: skip
    def crash(self, run: str, sigma: float, point: str, is_after: bool) -> None:
        self.rounds[run] += 1
        ledger, real = self.opened(), getattr(ledger_module, point)

        def deadly(*arguments: Any) -> Any:
            if is_after:
                real(*arguments)
            raise _Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ledger_module, point, deadly)
            try:
                self.release(ledger, run, self.rounds[run], sigma)
            except (_Killed, Refusal):
                return

    @rule(limit=st.sampled_from([1.0, 2.0, 2.5]))
    def set_limit(self, limit: float) -> None:
        self.policy = self.policy.model_copy(update={"max_epsilon": limit})
        self.most = max(self.most, limit)

    @precondition(lambda self: self.backup is None)
    @rule()
    def back_up(self) -> None:
        self.backup = self.folder / "backup"
        shutil.copy(self.site.path, self.backup)

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        assert self.backup is not None
        shutil.copy(self.backup, self.site.path)

    @precondition(lambda self: len(self.kept) > 0)
    @rule()
    def verify_against_the_server(self) -> None:
        self.opened()
        path = self.folder / "kept.jsonl"
        path.write_text("".join(each.text() + "\n" for each in self.kept))
        assert self.site.verify([path]) == []

    @invariant()
    def what_left_is_paid_for(self) -> None:
        charged = {payload: event for event, payload in self.left.values()}
        events = [event_from_dict(event) for event in charged.values()]
        assert epsilon(events, DELTA) <= self.most


SiteLife.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.slow
class TestSiteLife(SiteLife.TestCase):  # type: ignore[misc,name-defined]
    """Run by hypothesis."""
