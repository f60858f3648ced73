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
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
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


def anchors_of(document: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=id_of)
def test_links_within_the_project_lead_somewhere(document):
    lost = []
    for link in LINK.findall(document.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            lost.append(link)

    assert lost == []


def test_every_test_that_a_document_names_is_there():
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in [file.stem, *re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)]
    }
    named = {
        (id_of(document), name)
        for document in DOCUMENTS
        for name in re.findall(r"`(?:tests/\w+/)?(test_\w+)(?:\.py)?`", document.read_text())
    }

    assert len(named) > 100
    assert {each for each in named if each[1] not in there} == set()


@pytest.mark.parametrize(
    "document",
    [
        "billing.md",
        "flags.md",
        "gateways/README.md",
        "people.md",
        "plans.md",
        "quotas.md",
        "react.md",
        "security.md",
        "typescript.md",
    ],
)
def test_every_guarantee_has_its_tests(document):
    rows = re.findall(r"^\| (.+?) \| (.*) \|$", (ROOT / "docs" / document).read_text(), re.MULTILINE)
    proofs = [proof for _, proof in rows if "`test_" in proof]

    assert len(proofs) > 4
    assert [proof for proof in proofs if not re.fullmatch(r"`test_\w+`(, `test_\w+`)*", proof)] == []


def test_every_decision_says_context_decision_and_consequences():
    for record in (ROOT / "docs/decisions").glob("*.md"):
        text = record.read_text()

        assert text.startswith(f"# {record.name[:4]} "), record.name
        for part in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert part in text, f"{record.name} has no {part}"
