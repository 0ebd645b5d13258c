"""What one round of secure aggregation is, and the thresholds that follow from it.

With n participants, at most D vanishing and at most C colluding with the server, everything
below holds for certain, not just with high probability, and whoever vanishes may be chosen by
a lying server in the middle of the round:

- each site has k ≥ D + C + 1 neighbours (n − 1, all, up to 32 sites) and the shares of its two
  secrets have threshold t = k − D. D dropouts leave t holders, so that an honest run always
  recovers; t ≥ C + 1, so that colluders alone never do;
- a survivor set needs n − D signatures, and two different sets cannot both get them from
  honest sites that sign once, since 2(n − D) > n + C is demanded;
- the neighbour graph is a Harary graph (k/2 neighbours on each side of a ring), which stays
  connected when any k − 1 ≥ D + C nodes go: the server learns one sum, over all honest
  survivors, never two partial ones.

Bell et al. 2020 (SecAgg+) get along with degree O(log n) by trusting that the vanishing sites
are not chosen against the graph; here it is O(log n + D + C).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

from common.errors import MessageError
from common.secagg.keys import framed
from common.secagg.modular import LARGEST_BITS
from common.secagg.wire import is_name

COMPLETE_UP_TO = 32
_HASH_BYTES = 32


@dataclass(frozen=True)
class RoundSpec:
    """Public parameters of one round; all parties must hold equal ones.

    Attributes:
        run: the run's id, any bytes.
        server_round: number of the round, at least 0.
        config_hash: SHA-256 of the resolved run config, 32 bytes.
        participants: the invited sites, sorted and distinct, 3 to 1,000.
        max_dropouts: D, sites that may vanish in the whole round.
        max_colluders: C, sites that may side with the server.
        length: numbers per vector.
        modulus_bits: k of the modulus 2^k.
    """

    run: bytes
    server_round: int
    config_hash: bytes
    participants: tuple[str, ...]
    max_dropouts: int
    max_colluders: int
    length: int
    modulus_bits: int

    def __post_init__(self) -> None:
        """Refuse parameters under which the guarantees do not hold."""
        names, n = self.participants, len(self.participants)
        faults = []
        if not 3 <= n <= 1000 or list(names) != sorted(set(names)):
            faults.append(f"participants must be 3 to 1,000 sorted, distinct sites, got {n}")
        if not all(map(is_name, names)):
            faults.append("the name of a site must have 1 to 255 bytes of UTF-8")
        if min(self.server_round, self.max_dropouts, self.max_colluders) < 0:
            faults.append("server_round, max_dropouts and max_colluders must be >= 0")
        elif not 2 * (n - self.max_dropouts) > n + self.max_colluders:
            faults.append(
                f"{n} sites with max_dropouts={self.max_dropouts} and max_colluders="
                f"{self.max_colluders}: 2·max_dropouts + max_colluders must be below {n}"
            )
        elif self.share_threshold <= self.max_colluders:
            faults.append(f"max_colluders={self.max_colluders} of {n} sites can unmask alone")
        if len(self.config_hash) != _HASH_BYTES:
            faults.append(f"config_hash must have 32 bytes, got {len(self.config_hash)}")
        if self.length < 1 or not 1 <= self.modulus_bits <= LARGEST_BITS:
            faults.append(f"length={self.length}, modulus_bits={self.modulus_bits} out of range")
        if faults:
            raise MessageError("round of secure aggregation: " + "; ".join(faults))

    @cached_property
    def context(self) -> bytes:
        """SHA-256 of everything above: binds each key and signature to this round."""
        return self._digest(self.config_hash)

    @cached_property
    def context_without_config(self) -> bytes:
        """The same without the config hash, to tell a wrong config from a wrong round."""
        return self._digest(bytes(_HASH_BYTES))

    @property
    def min_survivors(self) -> int:
        """Sites that must be left at the end of every stage: n − D."""
        return len(self.participants) - self.max_dropouts

    @property
    def degree(self) -> int:
        """k, neighbours of each site when everybody takes part."""
        n = len(self.participants)
        if n <= COMPLETE_UP_TO:
            return n - 1
        k = max(2 * math.ceil(math.log2(n)), self.max_dropouts + self.max_colluders + 1)
        return min(k + k % 2, n - 1)

    @property
    def share_threshold(self) -> int:
        """t, shares that give a secret; at least C + 1."""
        return self.degree - self.max_dropouts

    def in_round(self, server_round: int) -> RoundSpec:
        """The same federation in another round."""
        return replace(self, server_round=server_round)

    def _digest(self, config_hash: bytes) -> bytes:
        numbers = [self.server_round, self.max_dropouts, self.max_colluders]
        numbers += [self.length, self.modulus_bits]
        fields = [self.run, *(str(number).encode() for number in numbers), config_hash]
        names = framed(*(name.encode() for name in self.participants))
        return sha256(framed(b"fedrec/secagg/v1/round", *fields, names)).digest()
