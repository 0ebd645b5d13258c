"""What docs/operations.md says of metrics, fields and alerts is what there is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from client.monitor import Figures
from client.policy import SitePolicy
from client.resident.site_metrics import SiteMetrics
from client.serving.metrics import ServedFigures, ServingMetrics, served_metrics
from common.logs import FIELDS
from server.certificates import issue, make_authority
from server.gate_metrics import FolderCollector, GateMetrics, run_metrics
from server.run_status import RunStatus, SiteLine
from server.server_folder import ServerFolder
from tests.server.test_certificates import written

PROMETHEUS_OWN = {"up"}
_NAME = re.compile(r"\bfedrec_[a-z0-9_]+\b")


@pytest.fixture
def section(repository: Path) -> str:
    text = (repository / "docs" / "operations.md").read_text(encoding="utf-8")
    return text.partition("\n## Seeing it\n")[2].partition("\n## ")[0]


@pytest.fixture
def names(tmp_path: Path) -> dict[str, set[str]]:
    """Every sample's name as it is scraped, with its labels."""
    folder = ServerFolder(tmp_path)
    folder.tls.mkdir()
    written(folder.tls, issue(make_authority("fedrec"), ["localhost"]), "server")
    gate, site = GateMetrics(), SiteMetrics("north")
    gate.passed("north", 1)
    gate.superlink_up.set(1)
    site.declared(9, SitePolicy(), 0.0)
    site.spent(1.0, 8.0)
    site.answered("train", "BudgetRefusal")
    site.write(tmp_path / "north.prom")
    line = SiteLine("north", epsilon_spent=1.0, epsilon_left=7.0)
    run = RunStatus("week-1", "running", 1, 2, "2026-01-01T00:00:00+00:00", "", {}, (line,))
    serving = ServingMetrics()
    serving.answered("Recommend", "OK", 0.001)
    pages: list[Metric] = [
        *text_string_to_metric_families(generate_latest(serving.registry).decode()),
        *served_metrics(ServedFigures(("north", "0001-a", "week-1", "greedy"), {"new": 0}, 1, 0)),
        *text_string_to_metric_families(generate_latest(gate.registry).decode()),
        *FolderCollector(folder).collect(),
        *run_metrics(run),
        *Figures(tmp_path / "north.prom").collect(),
    ]
    return {s.name: set(s.labels) for family in pages for s in family.samples}


def alerts(section: str) -> list[dict[str, Any]]:
    block = section.partition("```yaml\n")[2].partition("```")[0]
    return [rule for group in yaml.safe_load(block)["groups"] for rule in group["rules"]]


def test_the_table_names_every_metric_and_its_labels(
    section: str, names: dict[str, set[str]]
) -> None:
    table = section.partition("### Metrics")[2].partition("\n\n")[0]
    told: dict[str, set[str]] = {}
    for row in table.splitlines():
        cells = row.split("|")
        for name in _NAME.findall(cells[1]) if len(cells) > 2 else ():
            told[name] = set(re.findall(r"`(\w+)`", cells[2]))
    assert told == names


def test_every_alert_is_whole_and_of_metrics_that_exist(
    section: str, names: dict[str, set[str]]
) -> None:
    rules = alerts(section)
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert (
            {"alert", "expr", "annotations"}
            <= rule.keys()
            <= {*("alert", "expr", "for", "labels", "annotations")}
        )
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        check_expression(rule["expr"], names)
        asked = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        of_metrics = [names[name] for name in _NAME.findall(rule["expr"])]
        assert all(asked <= labels for labels in of_metrics), rule["alert"]


def check_expression(expression: str, names: dict[str, set[str]]) -> None:
    """Metrics and labels are there, and brackets close."""
    found = set(re.findall(r"\b[a-z_]+(?=\{)|\bfedrec_\w+", expression))
    assert found
    assert found <= names.keys() | PROMETHEUS_OWN, expression
    for name, matchers in re.findall(r"([a-z_]+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)(?:=~|!=|=)", matchers))
        assert labels <= names.get(name, {"job"}), expression
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


@pytest.mark.parametrize(
    "expression", ["fedrec_no_such_metric > 0", 'fedrec_superlink_up{site="x"} == 0', "sum("]
)
def test_a_wrong_expression_would_be_found(expression: str, names: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError):
        check_expression(expression, names)


def test_the_table_of_log_fields_names_them_all(section: str) -> None:
    table = section.partition("### Logs")[2].partition("### ")[0]
    rows: Iterable[str] = (row.split("|")[1] for row in table.splitlines() if row.startswith("| `"))
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == FIELDS | {"time", "level", "logger", "message"}
