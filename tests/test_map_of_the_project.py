"""docs/architecture.md and docs/glossary.md, compared with the tree that they describe."""

from __future__ import annotations

import re

import pytest

from tests.test_architecture import ALONE, MODULES_WITHIN_A_TIER, PACKAGE, ROOT, TIERS, WITHIN_A_TIER

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
GLOSSARY = (ROOT / "docs/glossary.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ROOMS = re.findall(r"^\| (\d+|-) \| `(\w+)` \| (.+) \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
TERMS = re.findall(r"^\| ([a-z][a-z ]*) \| (.+) \|$", GLOSSARY, re.MULTILINE)[1:]
PATH = re.compile(r"`((?:sidecar|tests|policies|sql|schemas|docs)/[\w./*-]*|\w+\.(?:json|yaml|md))`")


def test_every_room_has_one_row_with_its_tier():
    tiers = [(str(number), room) for number, rooms in enumerate(TIERS, 1) for room in rooms]

    assert sorted((tier, room) for tier, room, _, _ in ROOMS) == sorted(
        [*(each for each in tiers if each[1] != "__main__"), ("-", ALONE)]
    )


def test_the_rows_stand_in_the_order_of_import():
    tiers = [int(tier) for tier, *_ in ROOMS if tier != "-"]

    assert tiers == sorted(tiers)


def test_every_import_within_a_tier_is_named():
    section = ARCHITECTURE.partition("## The rooms")[2].partition("| tier |")[0]
    named = re.findall(r"`(\w+)` →\s+`([\w.]+)`", section)

    modules = {
        room: {name.removeprefix("sidecar.") for name in names}
        for room, names in MODULES_WITHIN_A_TIER.items()
    }
    assert sorted(named) == sorted(
        (room, other) for room, others in (WITHIN_A_TIER | modules).items() for other in others
    )


@pytest.mark.parametrize("text", [ARCHITECTURE, CONTRIBUTING], ids=["architecture", "contributing"])
def test_every_file_that_is_named_is_there(text):
    named = {
        path for path in PATH.findall(text) if not re.search(r"[A-Z]{4}", path) or path.endswith("README.md")
    }

    assert len(named) > 5
    assert sorted(path for path in named if not any((ROOT / at / path).exists() for at in ("", "docs"))) == []


def test_every_file_in_the_picture_is_in_the_room_beside_which_it_stands():
    picture = ARCHITECTURE.partition("```text\n")[2].partition("```")[0]
    room, lost, found = "", [], 0
    for line in picture.splitlines():
        if begins := re.match(r" ([a-z]+) {2,}\S", line):
            room = begins[1]
        for name in re.findall(r"(?<![\w/])([\w/]+\.py)\b", line):
            found += 1
            if not any((place / name).exists() for place in (PACKAGE / room, PACKAGE)):
                lost.append(f"{room}: {name}")

    assert found > 10
    assert lost == []


@pytest.mark.parametrize("text", [ARCHITECTURE, GLOSSARY], ids=["architecture", "glossary"])
def test_every_object_of_the_schema_that_is_named_is_there(text):
    schema = "".join(path.read_text() for path in (ROOT / "sql/schema").glob("*.sql"))
    made = set(
        re.findall(r"^CREATE (?:OR REPLACE )?(?:TABLE|VIEW|FUNCTION) authz\.(\w+)", schema, re.MULTILINE)
    )

    assert set(re.findall(r"`authz\.(\w+)`", text)) - made == set()


def test_a_term_stands_once_and_in_the_order_of_the_alphabet():
    terms = [term for term, _ in TERMS]

    assert len(terms) > 50
    assert terms == sorted(set(terms))


def test_a_row_of_the_glossary_is_a_term_and_what_it_is():
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("|")]

    assert len(rows) == len(TERMS) + 2  # the head and the line below it


@pytest.mark.parametrize(
    "document", ["docs/architecture.md", "docs/glossary.md", "CONTRIBUTING.md", "LICENSE"]
)
def test_the_readme_leads_there(document):
    assert f"]({document})" in (ROOT / "README.md").read_text()
