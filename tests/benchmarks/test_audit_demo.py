"""The page of attacks on finished runs: figures as they were signed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.audit_demo import main
from simulations.audit.membership_audit import MembershipEvidence, audit_membership
from simulations.audit.one_run.trade_off import GaussianTradeOff, TradeOff


def audited(run: str, epsilon: float | None, claimed: TradeOff | None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200), rng.normal(size=150)
    finding = audit_membership(
        MembershipEvidence(*scores, "loss", "the final adapter", claimed), 0.05
    )
    plan = {"gates": [{"check": "A6"}], "budget_minutes": 30.0}
    told = {"name": "inference.gender", "statistic": {}, "reason": "nothing to see"}
    code = {"fedrec": "1.2.3", "source_sha256": "f" * 64}
    return {"run": run, "claim": {"epsilon": epsilon}, "audited_at": "2026-01-01T00:00:00",
            "findings": [finding.model_dump(mode="json"), told], "pre_registration": plan,
            "code": code}  # fmt: skip


def test_the_page_repeats_signed_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"half": ("distributed", 8.0, GaussianTradeOff(2.0)), "none": ("none", None, None)}
    for run, (mode, epsilon, claimed) in runs.items():
        (tmp_path / run).mkdir()
        config = f'[data]\nheld_out_users = 0.5\n[privacy]\nmode = "{mode}"\n'
        (tmp_path / run / "config.toml").write_text(config)
        (tmp_path / run / "audit.json").write_text(json.dumps(audited(run, epsilon, claimed)))
    files = [str(tmp_path / run / "audit.json") for run in runs]
    monkeypatch.setattr(sys, "argv", ["audit_demo", *files, "--out", str(tmp_path / "demo.md")])
    main()
    page = (tmp_path / "demo.md").read_text()
    figures = json.loads(Path(files[0]).read_text())["findings"][0]["statistic"]
    area = f"{figures['auc']:.3f} [{figures['auc_low']:.3f}, {figures['auc_high']:.3f}]"
    (private,) = (line for line in page.splitlines() if line.startswith("| half | 8 | loss |"))
    assert f"| 200 / 150 | {area} |" in private
    assert private.endswith(f"| {figures['tpr_allowed']:.3f} | pass |")
    (exact,) = (line for line in page.splitlines() if line.startswith("| none | ∞ | loss |"))
    assert exact.endswith("|  | not testable |")
    assert page.count("inference.gender: nothing to see") == 2
    assert "--set privacy.mode=none --run none" in page
    assert "privacy.mode=distributed" not in page
