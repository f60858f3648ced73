"""A small catalog that is sound, policies to go with one, and ways to check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.catalog.check import Checked, check_plans

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "plans.yaml"

HEAD = "version: 1\ncurrency: EUR\ndefault_plan: free\n"
SMALL = f"{HEAD}roles: {{member: }}\nplans:\n  free: {{price: 0}}\n"

RULE = """package authz

# METADATA
# entrypoint: true
# custom:
#   context: [country, device]
decision := {"revision": data.authz.plans.revision, "starter": data.authz.plans.plans.starter.limits}
"""
MODULES = {
    "authz/decision.rego": RULE,
    "custom/rules.rego": "package custom\n\ndenials contains 1 if false\n",
}


def check(text: str | bytes) -> Checked:
    return check_plans(text.encode() if isinstance(text, str) else text, source="plans.yaml")


def codes_in(text: str | bytes) -> list[str]:
    return [problem.code for problem in check(text).problems]


def sound(text: str) -> Catalog:
    found = check(text)
    assert found.catalog is not None, found.problems
    return found.catalog
