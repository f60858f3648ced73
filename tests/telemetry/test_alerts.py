"""Alerts and dashboard: they name metrics and labels that there are, and each alert has its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.api.endpoints import ENDPOINTS
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.server_counts import ServerCounts

ROOT = Path(__file__).parent.parent.parent
ALERTS = ROOT / "deploy/prometheus/alerts.yaml"
FIRED = ALERTS.with_name("alerts_test.yaml")
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
BOARDS = [json.loads(path.read_text()) for path in (ROOT / "deploy/grafana").glob("*.json")]
PAGE = (ROOT / "docs/operations/alerts.md").read_text()
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    target["expr"] for board in BOARDS for panel in board["panels"] for target in panel["targets"]
]
# Prometheus' own: of each target.
OF_TARGETS = {"job", "instance"}


def series():
    """The labels of each series that a scrape can have, by its name."""
    found = {}
    for registry in (Metrics(engine="opa", revision="r1").registry, ServerCounts().registry):
        metric: Any
        for metric in registry._names_to_collectors.values():  # noqa: SLF001 - nothing public tells labels
            names, kind = set(metric._labelnames), metric._type  # noqa: SLF001 - ditto
            match kind:
                case "counter":
                    found[f"{metric._name}_total"] = names  # noqa: SLF001 - ditto
                case "histogram":
                    found[f"{metric._name}_bucket"] = names | {"le"}  # noqa: SLF001 - ditto
                    found |= dict.fromkeys((f"{metric._name}_sum", f"{metric._name}_count"), names)  # noqa: SLF001 - ditto
                case _:
                    found[metric._name] = names  # noqa: SLF001 - ditto
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_series_and_label_of_an_expression_exists(expression):
    known = series()

    for name, selector in re.findall(r"\b(sidecar_\w+)(\{[^}]*\})?", expression):
        assert name in known
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= known[name] | OF_TARGETS


def test_every_endpoint_that_an_alert_selects_exists():
    names = {endpoint.name for endpoint in ENDPOINTS}

    for operator, value in re.findall(r'endpoint(=~|!=|=)"([^"]+)"', " ".join(EXPRESSIONS)):
        wanted = value.split("|") if operator == "=~" else [value]
        assert all(any(re.fullmatch(each, name) for name in names) for each in wanted)


def test_every_alert_has_its_section_and_every_section_an_alert():
    assert re.findall(r"^## (\w+)$", PAGE, re.MULTILINE) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/operations/alerts.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


@pytest.mark.parametrize("arguments", [["check", "rules", ALERTS], ["test", "rules", FIRED]])
def test_promtool_finds_no_fault_in_the_rules(arguments):
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool on the PATH: apt-get install --no-install-recommends prometheus")
    ran = subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stdout + ran.stderr
