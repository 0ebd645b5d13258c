"""Where a site keeps its ledger, keys and anchor; opening, verifying and recovering it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.anchor import Anchor
from client.durability import Durability, durability_of
from client.ledger import Ledger
from client.ledger_file import LedgerFile, LedgerOwner, transaction
from client.ledger_guard import check_owner
from client.ledger_log import seal
from client.ledger_recovery import Recovery, charge_recovery, plan_recovery, whole_budget
from client.ledger_verify import (
    Fault,
    of_this_ledger,
    read_state,
    reference_faults,
    table_faults,
)
from client.policy import SitePolicy
from client.site_identity import SiteIdentity, load_identity
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, read_checkpoints
from common.merkle import EMPTY_ROOT
from common.state_folder import state_folder

LEDGER_FILE = "ledger.sqlite"
KEYS_FOLDER = "keys"


@dataclass(frozen=True)
class SiteLedger:
    """A site's ledger by its places.

    Attributes:
        path: the database.
        identity: the site's keys.
        anchor: the second place for checkpoints.
        owner: what the ledger is bound to.
        durability: what a charge survives.
    """

    path: Path
    identity: SiteIdentity
    anchor: Anchor
    owner: LedgerOwner
    durability: Durability = Durability.MACHINE

    def open(self) -> Ledger:
        """The ledger; it is begun where there is none.

        Raises:
            LedgerError: it cannot be spent from as it is.
        """
        return Ledger(
            self.path,
            unit=self.owner.unit,
            dataset_fingerprint=self.owner.dataset_fingerprint,
            site=self.owner.site,
            keys=self.path.parent / KEYS_FOLDER,
            anchor=self.anchor.path,
            durability=self.durability,
        )

    def verify(self, against: Sequence[Path] = ()) -> list[Fault]:
        """Every fault of the ledger against itself, its anchor and the files in `against`.

        Raises:
            LedgerError: there is no ledger, it is another's, or a file says nothing of it.
        """
        file = LedgerFile(self.path)
        if not file.exists():
            raise LedgerError(f"there is no ledger {self.path}; the site's first release begins it")
        references = self._references(against)
        anchored = self.anchor.read()
        with file.connection() as connection:
            check_owner(self.path, file.check(connection), self.owner)
            state = read_state(connection, self.identity.public_key)
        faults = table_faults(state)
        if state.size and not anchored:
            faults.append(Fault("anchor", f"the anchor {self.anchor.path} is missing"))
        for where, found in [(str(self.anchor.path), anchored), *references]:
            faults += reference_faults(state, found, where, self.identity.public_key)
        return faults

    def recover(self, against: Sequence[Path], policy: SitePolicy) -> Recovery:
        """Adopts the higher spend of all copies, and makes the anchor whole again.

        Where the ledger's anchor is gone and no other copy is given, the whole budget of
        the policy is taken as spent.

        Raises:
            LedgerError: the ledger is another's, or a file says nothing of it.
        """
        file = LedgerFile(self.path)
        file.begin(self.owner, lambda c: seal(c, self.owner, self.identity, 0, [], EMPTY_ROOT))
        anchored = self.anchor.read()
        key = self.identity.public_key
        kept = [anchored, *(found for _, found in self._references(against))]
        copies = [[each for each in found if each.is_signed_by(key)] for found in kept]
        with file.connection() as connection:
            check_owner(self.path, file.check(connection), self.owner)
            with transaction(connection):
                state = read_state(connection, key)
                recovery = plan_recovery(connection, state, copies)
                if state.size and not any(copies):
                    bound = whole_budget(policy.max_epsilon, policy.max_delta)
                    recovery = Recovery(bound.event, recovery.lost)
                    reason = "no copy of the checkpoints was left: the whole budget is charged"
                else:
                    reason = "copies show more than the database held: both are charged"
                if recovery.event is not None or recovery.lost or table_faults(state):
                    charge_recovery(connection, self.owner, self.identity, recovery, reason)
            # Only now: the anchor may be behind the database, and never ahead of it.
            own = read_state(connection, key).own
            known = {each.text() for each in anchored}
            self.anchor.append([each for each in own if each.text() not in known] or own[-1:])
        return recovery

    def _references(self, against: Sequence[Path]) -> list[tuple[str, list[Checkpoint]]]:
        return [
            (str(path), of_this_ledger(read_checkpoints(path), self.owner.ledger_id, str(path)))
            for path in against
        ]


def site_ledger(
    folder: Path,
    user_ids: Iterable[str],
    *,
    site: str,
    unit: str,
    is_simulated: bool,
    anchor: Path | None = None,
) -> SiteLedger:
    """The ledger of the site in `folder`.

    Args:
        folder: the site's folder.
        user_ids: of the site's data; they are hashed under the site's own key.
        site: the site's public name.
        unit: the privacy unit that it is charged for, for its whole life.
        is_simulated: a lab's site keeps its anchor beside the database, where it goes when
            the site goes, and flushes nothing (`client.durability`).
        anchor: the second place for checkpoints; None: in the user's state folder, under
            the name of the site's key, so that it outlives the site's folder.

    Raises:
        LedgerError: the site's keys are missing or damaged.
    """
    path = folder / LEDGER_FILE
    durability = durability_of(is_simulated=is_simulated)
    is_new = not LedgerFile(path).exists()
    identity = load_identity(folder / KEYS_FOLDER, begin=is_new, durability=durability)
    if anchor is None and is_simulated:
        anchor = path.with_name(path.name + ".anchor")
    elif anchor is None:
        anchor = state_folder() / "anchors" / f"{identity.public_key}.jsonl"
    fingerprint = identity.fingerprint(user_ids, unit)
    ledger_id = identity.ledger_id(unit, fingerprint)
    owner = LedgerOwner(unit, fingerprint, site, ledger_id, identity.public_key)
    return SiteLedger(path, identity, Anchor(anchor, durability), owner, durability)
