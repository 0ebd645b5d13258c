"""What the attacks on finished runs showed, as a page: `docs/audit/demo.md`.

Run it by ``PYTHONPATH=. python -m benchmarks.audit_demo AUDIT… [--out FILE]``, where each AUDIT
is the `audit.json` of a run that kept users out (`data.held_out_users`). It takes the figures
as they were signed and computes none.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

COLUMNS = "| run | ε | attack | members / others | AUC [95%] | TPR at 1% FPR | claim allows | |"


def rows(audit: dict[str, Any]) -> list[str]:
    """A row for each membership attack of an audit."""
    epsilon = audit["claim"]["epsilon"]
    name = f"| {audit['run']} | {'∞' if epsilon is None else f'{epsilon:.3g}'}"
    found = []
    for each in audit["findings"]:
        figures = each["statistic"]
        if not each["name"].startswith("membership.") or not figures:
            continue
        rate = figures["tpr_at_1_percent"]
        if not isinstance(rate, str):
            low, high = (figures[f"tpr_at_1_percent_{end}"] for end in ("low", "high"))
            rate = f"{rate:.3f} [{low:.3f}, {high:.3f}]"
        allowed = figures["tpr_allowed"]
        references = figures.get("references")
        attack = each["name"].removeprefix("membership.")
        attack += "" if references is None else f", {references} references"
        found.append(
            f"{name} | {attack} | {figures['members']} / {figures['others']} | {_area(figures)} | "
            f"{rate} | {'' if allowed is None else f'{allowed:.3f}'} | "
            f"{each['verdict'].replace('_', ' ')} |"
        )
    return found


def _area(figures: dict[str, Any]) -> str:
    return f"{figures['auc']:.3f} [{figures['auc_low']:.3f}, {figures['auc_high']:.3f}]"


def told(audit: dict[str, Any]) -> list[str]:
    """What else was found and decides nothing."""
    reasons = [each for each in audit["findings"] if each["name"].startswith("inference.")]
    return [f"- {audit['run']}, {each['name']}: {each['reason']}." for each in reasons]


def commands(path: Path, audit: dict[str, Any]) -> str:
    """How the run and its audit were made, from their own records."""
    config = tomllib.loads((path.parent / "config.toml").read_text(encoding="utf-8"))
    data, privacy = config["data"], config["privacy"]
    settings = [f"data.held_out_users={data['held_out_users']}", "evaluation.companions="]
    settings += [] if privacy["mode"] == "distributed" else [f"privacy.mode={privacy['mode']}"]
    words = " ".join(f"--set {each}" for each in settings)
    checks = sorted({gate["check"] for gate in audit["pre_registration"]["gates"]})
    minutes = audit["pre_registration"]["budget_minutes"]
    return (
        f"fedrec simulate demo {words} --run {audit['run']}\n"
        f"fedrec audit {audit['run']} --checks {','.join(checks)} --budget-minutes {minutes:g}"
        f"  # {audit['audited_at'][:10]}, fedrec {audit['code']['fedrec']}, sources "
        f"{audit['code']['source_sha256'][:16]}"
    )


def page(audits: dict[Path, dict[str, Any]]) -> str:
    """The whole page."""
    lines = [
        "# Attacks on the demo's released adapter",
        "",
        "Written by `python -m benchmarks.audit_demo` from the signed audits of these commands:",
        "```",
        *(commands(path, audit) for path, audit in audits.items()),
        "```",
        "Half of MovieLens-100K's users take part, the other half is whom the attacks must tell",
        "them from. [The audit](../audit.md) says what each attack does; lower bounds can refute a",
        "claim, they cannot prove it. A run at ε = ∞ claims nothing, so nothing is decided there.",
        "",
        COLUMNS,
        "|---|---|---|---|---|---|---|---|",
        *(row for audit in audits.values() for row in rows(audit)),
        "",
        *(line for audit in audits.values() for line in told(audit)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audits", nargs="+", type=Path, metavar="AUDIT")
    parser.add_argument("--out", type=Path, default=Path("docs/audit/demo.md"))
    options = parser.parse_args()
    found = {path: json.loads(path.read_text(encoding="utf-8")) for path in options.audits}
    options.out.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
