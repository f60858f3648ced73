"""What the documents say is true: examples parse, links lead somewhere, lists agree with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def id_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=id_of)
def test_examples_parse(document):
    parsers: dict[str, Callable[[str], object]] = {"json": json.loads, "yaml": yaml.safe_load}

    for language, text in FENCE.findall(document.read_text()):
        if language in parsers:
            parsers[language](text.replace("…", "etc"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=id_of)
def test_links_within_the_project_lead_somewhere(document):
    inside = [link.split("#")[0] for link in LINK.findall(document.read_text()) if "://" not in link]

    assert [link for link in inside if link and not (document.parent / link).exists()] == []


def test_every_decision_says_context_decision_and_consequences():
    for record in (ROOT / "docs/decisions").glob("*.md"):
        text = record.read_text()

        assert text.startswith(f"# {record.name[:4]} "), record.name
        for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, f"{record.name} has no {part}"
