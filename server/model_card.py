"""What an export says of itself: the model card and, where no report was made, the statement."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from common.adapters import Adapter, adapter_sha256
from common.config import RunConfig
from common.errors import EvidenceError, ExportError
from common.recorded_epsilon import SiteSpending, check_recorded, spending_by_site
from common.release_record import ReleaseRecord
from common.run_folder import RunFolder
from common.trusted_parties import trusted_text
from common.unit_texts import UNIT_WORDS

VOID = (
    "**VOID: this run drew noise from a seed (privacy.insecure_seeded_noise); whoever knows the "
    "seed can take it off, and no guarantee holds.**"
)
METRICS_MARKS = {
    "exact": "exact sums over the sites' users, **lab only, not covered by ε**",
    "private": "noised at every site and covered by ε",
    "none": "none: no metric left any site",
}


class RunFacts(NamedTuple):
    """What the run's records say.

    Attributes:
        run: name of the run, unique for ever.
        server_round: the last round with an adapter.
        config: the run's configuration.
        adapter: the trained adapter.
        last: record of that round.
        sites: what each site spent, recomputed from its releases.
    """

    run: str
    server_round: int
    config: RunConfig
    adapter: Adapter
    last: dict[str, Any]
    sites: list[SiteSpending]

    @property
    def is_void(self) -> bool:
        """Whether noise came from a seed."""
        return any(site.seeded for site in self.sites)

    @property
    def worst(self) -> SiteSpending | None:
        """The site that spent most; None where nothing was released."""
        return max(self.sites, key=lambda site: site.recomputed["prv"], default=None)


def run_facts(folder: RunFolder) -> RunFacts:
    """Reads a run's records and holds them against each other.

    Raises:
        ExportError: no round gave an adapter.
        EvidenceError: the adapter is not the one of the last round.
        PrivacyError: a site recorded less than it spent.
        RunFolderError: a file is missing or damaged.
    """
    config, rounds = folder.read_config(), folder.read_rounds()
    done = [each for each in rounds if each.get("adapter_sha256")]
    if not done:
        raise ExportError(f"{folder.path} has no trained adapter yet; wait for the first round")
    adapter, last = folder.read_adapter()[0], done[-1]
    if adapter_sha256(adapter) != last["adapter_sha256"]:
        raise EvidenceError(
            f"the adapter in {folder.path} is not that of round {last['server_round']}; "
            "it was changed, or the round was cut short: resume the run"
        )
    sites = spending_by_site([ReleaseRecord.model_validate(r) for r in folder.read_releases()])
    check_recorded(sites)
    return RunFacts(str(last["run"]), int(last["server_round"]), config, adapter, last, sites)


def claim_text(facts: RunFacts) -> str:
    """ε with everything that it hangs on, in one paragraph."""
    privacy, words = facts.config.privacy, UNIT_WORDS[facts.config.privacy.unit]
    if not facts.config.is_private:
        return "No privacy guarantee: privacy.mode is none, exact updates left the sites."
    worst = facts.worst
    if worst is None:
        return "Nothing was released in this run."
    spent = worst.recomputed["prv"]
    total = f"{math.ceil(spent * 1000) / 1000:.3f}" if math.isfinite(spent) else "unbounded"
    sentence = (
        f"ε = {total} at δ = {worst.delta:g} for each {words.unit} ({words.relation}), the highest "
        f"of {len(facts.sites)} sites, over all releases of this run together; accountant PRV, "
        f"{worst.sampling}; mode {privacy.mode}. Trusted: {trusted_text(facts.config)}. "
        f"{words.note}"
    ).strip()
    return f"{VOID}\n\nWithout that it would be: {sentence}" if facts.is_void else sentence


def model_card(facts: RunFacts, base: str, base_sha256: str) -> str:
    """``README.md``: a description free of anybody's data."""
    config, model = facts.config, facts.config.model
    hash_text = f"SHA-256 `{base_sha256}`" if base_sha256 else "SHA-256 not known (from the hub)"
    return f"""\
---
library_name: peft
base_model: {base}
tags: [recommendation, federated-learning, differential-privacy, lora]
---

# A federated recommender adapter

LoRA (rank {model.lora_rank}, query and value of the top {model.lora_layers} layers) and a
recommendation head, trained with fedrec across {config.data.sites} sites that never pooled their
users' data. Run `{facts.run}`, round {facts.server_round} of {config.federation.rounds}.

- Base model: `{base}`, {hash_text}. It was frozen; it is not part of this folder.
- Trained on: users' histories of interactions with a public catalogue, at the sites. No
  interaction, user id or text of a history is in this folder.
- Objective: {model.objective}.

`PeftModel.from_pretrained(base, FOLDER)` loads the LoRA part; `fedrec-site install-adapter`
verifies and installs all of it.

## Privacy

{claim_text(facts)}

`PRIVACY.md` is the statement. Choosing settings on other runs is not covered by it.

## Metrics

{_metrics_text(facts)}

## Integrity

`manifest.json` names the SHA-256 of every file and is signed with the coordinator's Ed25519 key.
"""


def privacy_statement(facts: RunFacts) -> str:
    """``PRIVACY.md`` from the releases alone; `fedrec report` writes a fuller one."""
    words = UNIT_WORDS[facts.config.privacy.unit]
    rows = "".join(
        f"| {site.site} | {_number(site.recomputed['prv'])} | {_number(site.recomputed['pld'])} "
        f"| {_number(site.recorded['prv'])} | {site.releases} |\n"
        for site in facts.sites
    )
    return f"""\
# What this adapter promises

{claim_text(facts)}

- Unit: {words.one}. Neighbouring data sets: {words.relation}.
- Covered: every release of this run that a site recorded; the sites' ledgers also count what they
  released before and elsewhere, and their limits hold over all of it.
- Not covered: runs that settings were chosen on; exact metrics, where a run has them.
- {words.persons}

| site | ε (PRV, recomputed) | ε (PLD, recomputed) | ε (PRV, whole ledger, as stated) | releases |
|---|---|---|---|---|
{rows}
The middle columns follow from the events in the run's `releases.jsonl` alone:
`fedrec privacy --releases releases.jsonl`.
"""


def _metrics_text(facts: RunFacts) -> str:
    mark = METRICS_MARKS[facts.config.evaluation.metrics]
    shown = []
    for stage in ("validation", "test"):
        for name, value in sorted((facts.last.get(stage) or {}).items()):
            if isinstance(value, float):
                shown.append(f"- {stage} {name}: {value:.4f}")
    if not shown:
        return f"In the last round {METRICS_MARKS['none']}."
    return "\n".join([f"Last round, {mark}:", "", *shown])


def _number(value: float | None) -> str:
    return "—" if value is None else "unbounded" if math.isinf(value) else f"{value:.4f}"
