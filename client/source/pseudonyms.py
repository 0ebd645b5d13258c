"""Users' ids are replaced at the door, under a key that never leaves the site."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

from common.errors import LedgerError
from common.key_file import load_key

PSEUDONYM_FILE = "pseudonym.key"
_USER = b"fedrec user\0"
_POPULATION = b"fedrec population\0"


class Pseudonyms:
    """HMAC-SHA-256 of users' ids under the site's own key.

    Whoever lacks the key can neither turn a pseudonym back nor check a guess. The same id has
    the same pseudonym for as long as the key lives: a lost key is a new population.
    """

    def __init__(self, key: bytes) -> None:
        """Uses the 32 random bytes of the site's pseudonym key."""
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms()"

    @property
    def population(self) -> str:
        """Names the users behind this key, whoever comes or goes; the ledger is bound to it."""
        return self._digest(_POPULATION).hex()

    def digest(self, user_id: str) -> bytes:
        """The pseudonym of one user, 32 bytes."""
        return self._digest(_USER + user_id.encode("utf-8"))

    def of(self, user_id: str) -> str:
        """The pseudonym of one user, as the site's tables have it: 64 hexadecimal digits."""
        return self.digest(user_id).hex()

    def digests(self, ids: Any) -> list[bytes]:
        """The pseudonyms of a `pa.StringArray`; each distinct id is hashed once."""
        coded = ids.dictionary_encode()
        known = [self.digest(each) for each in coded.dictionary.to_pylist()]
        return [known[index] for index in coded.indices.to_pylist()]

    def _digest(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, hashlib.sha256)


def load_pseudonyms(keys: Path, *, begin: bool) -> Pseudonyms:
    """The pseudonyms under the key in the folder `keys`; it is made there if `begin`.

    Raises:
        LedgerError: the key is missing, damaged, or readable by others.
        RunFolderError: the file system refuses.
    """
    return Pseudonyms(load_key(keys / PSEUDONYM_FILE, "the site's", LedgerError, begin=begin))
