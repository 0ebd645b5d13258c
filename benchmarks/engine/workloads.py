"""What is measured: four workloads, and how much of each in a full and in a quick run."""

from __future__ import annotations

from dataclasses import dataclass

HISTORY = 20
NEGATIVES = 4
ROWS = HISTORY + 1 + NEGATIVES  # texts per training example
TOKENS = 24
RANK = 8
BATCH = 16
CLIP = 1.0
SIGMA = 1.0
LEARNING_RATE = 0.05


@dataclass(frozen=True)
class Workload:
    """How much a peer computes for one workload.

    Attributes:
        name: as on the command line.
        text: one line for the table's legend.
        lora_layers: top BERT layers that carry LoRA.
        sites: simulated clients.
        clients: clients that a peer's round asks; the cost of a client-round is the same for
            each, so that a part of `sites` gives the rate.
        rounds: measured rounds of a process (peer A is measured twice); one more, of about 4
            examples a client, comes before them.
        steps: private steps of a client in a round.
        must: least ratio to peer A, in fp32 and with bf16 matrix units.
        frontier: the ratios that would be excellent.
    """

    name: str
    text: str
    lora_layers: int
    sites: int
    clients: int
    rounds: int
    steps: int
    must: tuple[float, float]
    frontier: tuple[float, float]


WORKLOADS = {
    "all": Workload(
        "all",
        "LoRA in all 6 layers, gradient through every row",
        lora_layers=6,
        sites=8,
        clients=8,
        rounds=1,
        steps=1,
        must=(1.8, 4),
        frontier=(2.5, 8),
    ),
    "top2": Workload(
        "top2",
        "LoRA in the top 2 layers, gradient through every row",
        lora_layers=2,
        sites=8,
        clients=8,
        rounds=1,
        steps=1,
        must=(4, 10),
        frontier=(6, 20),
    ),
    "default": Workload(
        "default",
        "the project's default recipe against peer A's `top2`, per target position",
        lora_layers=2,
        sites=8,
        clients=8,
        rounds=1,
        steps=1,
        must=(15, 40),
        frontier=(30, 100),
    ),
    "device": Workload(
        "device",
        "943 one-user sites, 100 sampled a round, 4 local steps",
        lora_layers=2,
        sites=943,
        clients=4,
        rounds=1,
        steps=4,
        must=(20, 50),
        frontier=(60, 150),
    ),
}

SAMPLED_SITES = 100  # of `device`, in fedrec's own rounds

# A workload whose peer runs another's recipe takes that one's measurement.
SAME_PEER = {"default": "top2"}


def clients_of(workload: Workload, quick: bool) -> int:
    """Clients in a peer's round."""
    return max(2, workload.clients // 4) if quick else workload.clients
