"""What secure aggregation costs a site and the server.

Run it by ``PYTHONPATH=. python benchmarks/secagg.py [SITES]``, 32 sites by default.
All parties run in this process, one after the other, over the messages' bytes; a site's time
is the mean over the sites. A fifth of the sites may vanish; the second table lets them.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.secagg_policy import RoundGate, SecAggPolicy
from client.secagg_site import SecAggSite
from common.discrete_noise import masked_sum_input
from common.randomness import secure_source
from common.secagg.quantisation import QuantisationPlan, dequantise
from common.secagg.round_spec import RoundSpec
from server.secagg_coordinator import SecAggCoordinator

NUMBERS = 25_000


class Round:
    """One round, timed and weighed by stage."""

    def __init__(self, sites: int) -> None:
        self.names = tuple(f"site-{at:04d}" for at in range(sites))
        self.plan = QuantisationPlan(sites, sites - sites // 5 - 1, NUMBERS, 1.0, 1.0, 94, 200)
        self.spec = RoundSpec(
            b"run", 0, bytes(32), self.names, sites // 5, 1, NUMBERS, self.plan.modulus_bits
        )
        identities = {name: Ed25519PrivateKey.generate() for name in self.names}
        peers = {name: key.public_key().public_bytes_raw() for name, key in identities.items()}
        self.sites = {
            name: SecAggSite(SecAggPolicy(name, key, peers, 2, 1), self.spec, RoundGate())
            for name, key in identities.items()
        }
        self.server = SecAggCoordinator(self.spec, peers)
        self.seconds: dict[str, float] = defaultdict(float)
        self.up: dict[str, int] = defaultdict(int)
        self.down: dict[str, int] = defaultdict(int)

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.seconds[name] += time.perf_counter() - start
        return result

    def at_sites(self, stage: str, names: tuple[str, ...], incoming: Any = None) -> list[Any]:
        """One message of each of the sites; `incoming` is what all or each of them got."""
        replies = []
        for name in names:
            message = incoming[name] if isinstance(incoming, dict) else incoming
            got = () if message is None else (message.encode(),)
            self.down[stage] += sum(map(len, got))
            replies.append(
                self.timed(stage, lambda n=name, g=got, m=message: self._one(n, stage, g, m))
            )
            self.up[stage] += len(replies[-1])
        return replies

    def _one(self, name: str, stage: str, got: tuple[bytes, ...], message: Any) -> bytes:
        arguments = [type(message).decode(data) for data in got]
        if stage == "mask_input":
            arguments.append(self.vectors[name])
        reply = getattr(self.sites[name], stage)(*arguments)
        self.kind = type(reply)
        return bytes(reply.encode())

    def run(self, vanishing: int) -> None:
        names, source = self.names, secure_source()
        self.vectors = {
            name: self.timed(
                "noise", lambda: masked_sum_input(np.zeros(NUMBERS), self.plan, source)
            )
            for name in names
        }
        message = None
        left = names
        for stage, receive in (
            ("advertise", self.server.receive_adverts),
            ("share_keys", self.server.receive_shares),
            ("mask_input", self.server.receive_inputs),
            ("sign_survivors", self.server.receive_signatures),
            ("unmask", self.server.receive_unmask),
        ):
            if stage == "mask_input":
                left = names[vanishing:]
            replies = self.at_sites(stage, left, message)
            decoded = [self.kind.decode(data) for data in replies]
            message = self.timed("server", lambda r=receive, d=decoded: r(d))
        noise = dequantise(message, self.plan).std()
        print(f"noise of the sum ÷ C: {noise:.3f} (σ = {self.plan.noise_multiplier})")


def main() -> None:
    sites = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    for vanishing in (0, sites // 5):
        benchmark = Round(sites)
        print(f"\n{sites} sites, {NUMBERS} numbers, {vanishing} vanish before their input")
        print(benchmark.plan.describe())
        benchmark.run(vanishing)
        print(f"{'per site':16}{'ms':>8}{'bytes up':>12}{'bytes down':>12}")
        total = [0.0, 0.0, 0.0]
        for stage in [name for name in benchmark.seconds if name != "server"]:
            figures = [benchmark.seconds[stage] * 1e3, benchmark.up[stage], benchmark.down[stage]]
            figures = [figure / sites for figure in figures]
            total = [a + b for a, b in zip(total, figures, strict=True)]
            print(f"{stage:16}{figures[0]:8.1f}{figures[1]:12.0f}{figures[2]:12.0f}")
        print(f"{'total':16}{total[0]:8.1f}{total[1]:12.0f}{total[2]:12.0f}")
        print(f"server, whole round: {benchmark.seconds['server'] * 1e3:.1f} ms")
        print(f"upload ÷ plain float32 upload: {total[1] / (4 * NUMBERS):.2f}")


if __name__ == "__main__":
    main()
