"""The examples of docs/plans.md are what it says they are."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.catalog.files import ROOT, check

DOCS = (ROOT / "docs/plans.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCS, flags=re.DOTALL)


def test_the_smallest_file_is_sound():
    assert check(EXAMPLES[0]).problems == ()


def test_the_examples_together_are_one_catalog_without_problems():
    catalog: dict[str, Any] = {"version": 1, "currency": "EUR", "default_plan": "free"}
    for example in EXAMPLES[1:]:
        catalog |= yaml.safe_load(example)
    for plan in catalog["plans"].values():
        plan["limits"] |= {"calls": 5, "documents": 5}

    checked = check(yaml.safe_dump(catalog, default_flow_style=None))

    assert checked.problems == ()
    assert [each for each in checked.warnings if each.code == "consumes_again"] == []


@pytest.mark.parametrize("field", ["roles", "features", "meters", "plans", "actions", "routes", "invariants"])
def test_each_section_has_its_heading(field):
    assert f"\n## {field}\n" in DOCS
