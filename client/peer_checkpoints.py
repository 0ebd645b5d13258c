"""The newest ledger checkpoints of the peers, kept for them: a third place for each.

A site hands its neighbours in each secure sum the newest signed checkpoint of its ledger. A
peer whose whole host is set back can be held to what its neighbours kept, even where the
server hides what it was sent: its operator asks for their files and gives them to
``fedrec-site ledger verify --against``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.atomic_files import write_text
from common.errors import LedgerError
from common.ledger_checkpoint import Checkpoint, parse_checkpoint, read_checkpoints
from common.secagg.key_messages import KeyAdvert

PEERS_FILE = "peer-checkpoints.jsonl"

logger = logging.getLogger(__name__)


class PeerCheckpoints:
    """One line per peer; see the module's docstring."""

    def __init__(self, site_folder: Path) -> None:
        """`site_folder` is the site's own folder."""
        self.path = site_folder / PEERS_FILE

    def keep(self, adverts: Iterable[KeyAdvert], identities: Mapping[str, bytes]) -> list[str]:
        """Keeps each peer's checkpoint if it is newer than what was kept.

        Args:
            adverts: whose signatures under the peers' pinned identities were checked.
            identities: the pinned Ed25519 keys by site; a peer speaks for its own ledger only.

        Returns:
            The peers whose ledger is now shorter than it was, or another of the same size;
            a warning is logged, and what was kept of them stays.
        """
        kept = self._read()
        before, set_back = dict(kept), list[str]()
        for advert in adverts:
            checkpoint = parse_checkpoint(advert.checkpoint)
            if checkpoint is None or not checkpoint.is_signed_by(identities[advert.site].hex()):
                continue
            known = kept.get(checkpoint.public_key)
            if known is not None and _went_back(known, checkpoint):
                set_back.append(advert.site)
                continue
            kept[checkpoint.public_key] = checkpoint
        if kept != before:
            write_text(self.path, "".join(f"{each.text()}\n" for each in kept.values()))
        for site in set_back:
            logger.warning(
                "the ledger of peer %s has gone back since an earlier round; its operator should "
                "run fedrec-site ledger verify --against this site's %s",
                site,
                self.path.name,
            )
        return set_back

    def _read(self) -> dict[str, Checkpoint]:
        if not self.path.exists():
            return {}
        try:
            return {each.public_key: each for each in read_checkpoints(self.path)}
        except LedgerError:  # damaged: what peers send next takes its place
            logger.warning("%s held no checkpoint and is written anew", self.path)
            return {}


def _went_back(known: Checkpoint, now: Checkpoint) -> bool:
    """Whether the same ledger is shorter than it was, or another of the same size."""
    if known.ledger_id != now.ledger_id:
        return False
    return known.tree_size > now.tree_size or (
        known.tree_size == now.tree_size and known.root != now.root
    )
